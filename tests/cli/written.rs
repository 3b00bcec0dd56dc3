//! What commands write: where root can be led by others, and what is left of a command
//! that fails.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::delivered::{SERVICE, STRANGER, WWW_DATA, configure, directory, place, root};
use super::unprivileged::{is_root, own};
use super::{GOOD, onionbraid, stderr, stdout, write};

/// Clients in this directory alone may find the service.
fn restricted(directory: &Path) -> String {
    format!(
        "[onion_services.shop.restricted_discovery]\nenabled = true\n\
         key_dirs = [{{ path = {directory:?} }}]"
    )
}

/// The directory of a service of another user's, with a key.
fn with_key(dir: &Path, more: &str) {
    directory(&dir.join("volume"), SERVICE, SERVICE, 0o700);
    directory(&dir.join("roots"), 0, 0, 0o755);
    configure(dir, more, "");
    let made = root(dir, &["keys", "generate", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
}

fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}

#[test]
fn root_is_led_nowhere_by_who_is_neither_root_nor_the_service() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    // A directory of a user that has nothing to do with it, and one of root's that a
    // group can change; in both that user has put a link.
    for (name, user, group, mode) in
        [("their", STRANGER, STRANGER, 0o755), ("group", 0, WWW_DATA, 0o775)]
    {
        directory(&dir.join(name), user, group, mode);
        symlink(dir.join("roots"), dir.join(name).join("link")).unwrap();
        lchown(dir.join(name).join("link"), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    with_key(dir, &restricted(&dir.join("their/link")));
    fs::write(dir.join("roots/bob.auth"), "theirs").unwrap();
    let csr = ["certificate", "request", "shop", "--nonce", "3Jq1mV0xTqk=", "--out"];
    for arguments in [
        &["certificate", "self-signed", "shop", "--out", "their/link"][..],
        &["certificate", "self-signed", "shop", "--out", "group/link"],
        &["certificate", "self-signed", "shop", "--out", "their/link/new/below"],
        &[&csr[..], &["their/link/csr"]].concat(),
        &["clients", "add", "shop", "alice", "--out", "alice.auth_private"],
        &["clients", "remove", "shop", "bob"],
    ] {
        let refused = root(dir, arguments);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(77), "{arguments:?}: {said}");
        let right = "\"link\" on the way there is a link, with which UID 54321";
        assert!(said.contains(right) && said.contains("name the place"), "{arguments:?}: {said}");
    }
    let left: Vec<_> = dir.join("roots").read_dir().unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, [dir.join("roots/bob.auth")]);
    assert!(!dir.join("alice.auth_private").exists());

    // What is no link is a place like others: the files there are the service's.
    for name in ["their/own", "group/own"] {
        directory(&dir.join(name), STRANGER, STRANGER, 0o755);
        let made = root(dir, &["certificate", "self-signed", "shop", "--out", name]);
        assert_eq!(made.status.code(), Some(0), "{name}: {}", stderr(&made));
        let key = dir.join(name).join("shop.key").metadata().unwrap();
        assert_eq!((key.uid(), key.mode() & 0o777), (SERVICE, 0o600), "{name}");
    }
    // The group's directory is not the service's: root writes there, not that user.
    let made = root(dir, &["certificate", "self-signed", "shop", "--out", "group"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert_eq!(dir.join("group/shop.key").metadata().unwrap().uid(), SERVICE);
}

#[test]
fn roots_own_links_are_followed_and_those_of_the_service_by_the_service() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    with_key(dir, "");
    directory(&dir.join("volume/files"), SERVICE, SERVICE, 0o700);
    directory(&dir.join("closed"), 0, 0, 0o700);
    directory(&dir.join("closed/open"), 0, 0, 0o777);
    symlink("volume", dir.join("way")).unwrap();
    for (target, name) in [("files", "of-service"), ("../closed/open", "out")] {
        symlink(target, dir.join("volume").join(name)).unwrap();
        lchown(dir.join("volume").join(name), Some(SERVICE), Some(SERVICE)).unwrap();
    }
    let make = |out| root(dir, &["certificate", "self-signed", "shop", "--out", out]);
    for out in ["way", "way/of-service", "way/of-service/new/one"] {
        let made = make(out);
        assert_eq!(made.status.code(), Some(0), "{out}: {}", stderr(&made));
        let key = dir.join(out).join("shop.key").metadata().unwrap();
        assert_eq!((key.uid(), key.mode() & 0o777), (SERVICE, 0o600), "{out}");
    }
    assert_eq!(dir.join("volume/files/new").metadata().unwrap().mode() & 0o777, 0o700);
    // Root opens no door for that user: it cannot enter what is closed to it.
    let refused = make("way/out");
    assert_eq!(refused.status.code(), Some(77), "{}", stderr(&refused));
    assert!(is_empty(&dir.join("closed/open")));
}

#[test]
fn a_restore_by_root_follows_no_link_of_another_user() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    for name in ["roots", "their", "their/etc"] {
        directory(&dir.join(name), 0, 0, 0o755);
    }
    write(dir, "passphrase", "only a test");
    let text = "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n\
                [storage]\nstate_dir = \"state\"\ncache_dir = \"cache\"\n";
    write(&dir.join("their/etc"), "arti.toml", text);
    let file = ["-c", "their/etc/arti.toml"];
    let run = |arguments: &[&str]| onionbraid(dir, &[arguments, &file[..]].concat());
    let made = run(&["keys", "generate", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let made = run(&["backup", "b.age", "--passphrase-file", "passphrase"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    fs::rename(dir.join("their/etc"), dir.join("away")).unwrap();
    directory(&dir.join("their"), STRANGER, STRANGER, 0o755);
    symlink(dir.join("roots"), dir.join("their/etc")).unwrap();
    lchown(dir.join("their/etc"), Some(STRANGER), Some(STRANGER)).unwrap();
    let restore = || run(&["restore", "b.age", "--passphrase-file", "passphrase"]);
    let refused = restore();
    assert_eq!(refused.status.code(), Some(77), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("\"etc\" on the way there is a link"));
    assert!(is_empty(&dir.join("roots")));
    fs::remove_file(dir.join("their/etc")).unwrap();
    let restored = restore();
    assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
    assert_eq!(stdout(&run(&["keys", "address", "shop"])).len(), 63);
}

/// Everything below a directory, and what the files hold.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
            found.insert(path.display().to_string(), bytes);
            directories.extend(path.is_dir().then_some(path));
        }
    }
    found
}

/// The program where no file may have more than so many blocks of 512 bytes.
fn limited(dir: &Path, blocks: &str, arguments: &[&str]) -> Output {
    let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
    Command::new("sh")
        .args(["-c", script, "sh", blocks, env!("CARGO_BIN_EXE_onionbraid")])
        .args(arguments)
        .env("HOME", dir.join("home"))
        .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
        .current_dir(dir)
        .output()
        .unwrap()
}

#[test]
fn nothing_is_left_of_a_command_that_can_write_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let clients = restricted(Path::new("clients"));
    write(dir, "arti.toml", &format!("{GOOD}{clients}\n[storage]\nstate_dir = \"state\"\n"));
    write(dir, "torrc", "HiddenServiceDir tor\nHiddenServicePort 80 127.0.0.1:80\n");
    write(dir, "passphrase", "only a test");
    let file = ["-c", "arti.toml"];
    let backup = ["backup", "b.age", "--passphrase-file", "passphrase"];
    for made in [
        &[&["keys", "generate", "shop"], &file[..]].concat()[..],
        &["keys", "generate", "--out", "tor"],
        &[&["clients", "add", "shop", "eve", "--out", "eve.auth_private"], &file[..]].concat(),
        &[&["backup", "good.age", "--passphrase-file", "passphrase"], &file[..]].concat(),
    ] {
        let made = onionbraid(dir, made);
        assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    }
    let before = tree(dir);
    let periods = ["keys", "export-periods", "shop", "--count", "3", "--out", "periods"];
    for (blocks, arguments, with_file) in [
        ("0", &["keys", "generate", "--out", "new"][..], false),
        ("0", &["keys", "generate", "--format", "pem", "--out", "new"], false),
        ("0", &["keys", "export", "shop", "--out", "new"], true),
        ("1", &periods, true),
        ("0", &["backend-config", "shop", "--out", "new"], true),
        ("0", &["certificate", "self-signed", "shop", "--out", "new"], true),
        // The key is written, the certificate is too long.
        ("1", &["certificate", "self-signed", "shop", "--out", "new"], true),
        ("0", &["clients", "add", "shop", "alice"], true),
        ("0", &backup, true),
        ("0", &["import", "torrc", "torrc", "--copy-keys", "new"], false),
        // The keys are short enough, the file and the manifests are not.
        ("1", &["import", "torrc", "torrc", "--copy-keys", "new", "--out", "new/toml"], false),
        ("1", &["kubernetes", "web", "--to", "http://web:80", "--out", "k"], false),
        ("0", &["restore", "good.age", "--passphrase-file", "passphrase", "--into", "r"], false),
    ] {
        let file = if with_file { &file[..] } else { &[] };
        let failed = limited(dir, blocks, &[arguments, file].concat());
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.to_lowercase().contains("file too large"), "{arguments:?}: {said}");
        assert_eq!(tree(dir), before, "{arguments:?}: {said}");
    }
}

#[test]
fn keys_that_an_import_has_copied_are_gone_if_its_last_step_fails() {
    let dir = place();
    let dir = dir.path();
    write(dir, "torrc", "HiddenServiceDir tor/shop\nHiddenServicePort 80 127.0.0.1:80\n");
    fs::create_dir(dir.join("tor")).unwrap();
    let made = onionbraid(dir, &["keys", "generate", "--out", "tor/shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    fs::create_dir(dir.join("own")).unwrap();
    fs::write(dir.join("own/theirs"), "").unwrap();
    if is_root() {
        // Whose the directory is, that user writes there and takes back.
        own(&dir.join("own"), SERVICE);
    }
    let before = tree(dir);
    // The file would have the name of a directory of a key.
    let taken =
        onionbraid(dir, &["import", "torrc", "torrc", "--copy-keys", "new", "--out", "new/shop"]);
    assert_eq!(taken.status.code(), Some(1), "{}", stderr(&taken));
    assert!(stderr(&taken).contains("new/shop exists already"), "{}", stderr(&taken));
    assert_eq!(tree(dir), before);
    for keys in ["new", "own", "own/new"] {
        let output = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .args(["import", "torrc", "torrc", "--copy-keys", keys])
            .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
            .stdout(fs::File::options().write(true).open("/dev/full").unwrap())
            .current_dir(dir)
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{keys}: {said}");
        assert!(said.contains("No space left on device"), "{keys}: {said}");
        assert_eq!(tree(dir), before, "{keys}: {said}");
    }
    for keys in ["own/new", "own"] {
        let copied = onionbraid(dir, &["import", "torrc", "torrc", "--copy-keys", keys]);
        assert_eq!(copied.status.code(), Some(0), "{keys}: {}", stderr(&copied));
        let key = dir.join(keys).join("shop/hs_ed25519_secret_key").metadata().unwrap();
        let owner = if is_root() { SERVICE } else { dir.metadata().unwrap().uid() };
        assert_eq!((key.uid(), key.mode() & 0o777), (owner, 0o600), "{keys}");
    }
}

#[test]
fn commands_that_change_the_clients_at_once_come_one_after_the_other() {
    const KEY: &str = "descriptor:x25519:N2NU7BSRL6YODZCYPN4CREB54TYLKGIE2KYOQWLFYC23ZJVCE5DQ";
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "arti.toml", &format!("{GOOD}{}\n", restricted(Path::new("clients"))));
    let start = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .args(arguments)
            .args(["-c", "arti.toml"])
            .env("HOME", dir.join("home"))
            .current_dir(dir)
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    // One of them makes the directory.
    let names: Vec<String> = (0..6).map(|n| format!("client{n}")).collect();
    let mut adding: Vec<_> =
        names.iter().map(|name| start(&["clients", "add", "shop", name, "--key", KEY])).collect();
    adding.extend((0..4).map(|_| start(&["clients", "add", "shop", "same", "--key", KEY])));
    let ended = |started: Vec<std::process::Child>| -> Vec<Output> {
        started.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
    };
    let added = ended(adding);
    for output in &added[..names.len()] {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    }
    let same = &added[names.len()..];
    assert_eq!(same.iter().filter(|output| output.status.success()).count(), 1);
    for refused in same.iter().filter(|output| !output.status.success()) {
        assert!(stderr(refused).contains("has a client \"same\" already"), "{}", stderr(refused));
    }
    assert_eq!(dir.join("clients").read_dir().unwrap().count(), names.len() + 1);
    let removed = ended((0..4).map(|_| start(&["clients", "remove", "shop", "same"])).collect());
    let codes: Vec<_> = removed.iter().filter_map(|output| output.status.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 2).count(), 3, "{codes:?}");
}

#[test]
fn nothing_is_written_through_a_link_in_the_place_of_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let clients = restricted(Path::new("clients"));
    write(dir, "arti.toml", &format!("{GOOD}{clients}\n[storage]\nstate_dir = \"state\"\n"));
    write(dir, "torrc", "HiddenServiceDir tor\nHiddenServicePort 80 127.0.0.1:80\n");
    write(dir, "passphrase", "only a test");
    fs::create_dir(dir.join("clients")).unwrap();
    for made in [&["shop", "-c", "arti.toml"][..], &["--out", "tor"]] {
        let made = onionbraid(dir, &[&["keys", "generate"], made].concat());
        assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    }
    for name in ["out", "shop.key", "clients/alice.auth", "onionbraid.1", "onionbraid.bash"] {
        symlink("victim", dir.join(name)).unwrap();
    }
    let file = ["-c", "arti.toml"];
    let before = tree_of_links(dir);
    let csr = ["certificate", "request", "shop", "--nonce", "3Jq1mV0xTqk=", "--out", "out"];
    for (arguments, with_file) in [
        (&["keys", "generate", "--out", "out"][..], false),
        (&["keys", "generate", "--format", "pem", "--out", "out"], false),
        (&["keys", "export", "shop", "--out", "out"], true),
        (&["keys", "export-periods", "shop", "--count", "1", "--out", "out"], true),
        (&["backend-config", "shop", "--out", "out"], true),
        (&["certificate", "self-signed", "shop", "--out", "."], true),
        (&csr, true),
        (&["clients", "add", "shop", "alice"], true),
        (&["clients", "add", "shop", "bob", "--out", "out"], true),
        (&["import", "torrc", "torrc", "--out", "out"], false),
        (&["import", "torrc", "torrc", "--copy-keys", "out"], false),
        (&["backup", "out", "--passphrase-file", "passphrase"], true),
    ] {
        let file = if with_file { &file[..] } else { &[] };
        let refused = onionbraid(dir, &[arguments, file].concat());
        assert_ne!(refused.status.code(), Some(0), "{arguments:?}");
        assert_eq!(tree_of_links(dir), before, "{arguments:?}: {}", stderr(&refused));
    }
    // Manual pages and completions are made anew: in the place of the link.
    for arguments in [&["man"][..], &["completions", "bash"]] {
        let made = onionbraid(dir, &[&["generate"], arguments, &["--out", "."]].concat());
        assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    }
    assert!(!dir.join("victim").exists());
    for name in ["onionbraid.1", "onionbraid.bash"] {
        assert!(dir.join(name).symlink_metadata().unwrap().is_file(), "{name}");
    }
}

fn tree_of_links(dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for directory in [dir.to_owned(), dir.join("clients")] {
        let entries = directory.read_dir().unwrap().map(|it| it.unwrap());
        found.extend(entries.map(|it| format!("{:?} {:?}", it.path(), it.file_type().unwrap())));
    }
    found.sort();
    found
}

#[test]
fn no_key_is_made_for_manifests_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir_all(dir.join("k/kustomization.yaml/full")).unwrap();
    let before = tree(dir);
    let make = ["kubernetes", "shop", "--to", "http://web:80", "--out", "k"];
    for more in [&["--force"][..], &[]] {
        let refused = onionbraid(dir, &[&make, more].concat());
        assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("kustomization.yaml"), "{}", stderr(&refused));
        assert_eq!(tree(dir), before);
    }
}

#[test]
fn a_key_that_root_writes_is_of_the_directory_that_it_is_in() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    with_key(dir, "");
    directory(&dir.join("their"), SERVICE, WWW_DATA, 0o755);
    for place in ["their", "roots"] {
        let below = |name: &str| format!("{place}/{name}");
        let (ctor, pem) = (below("ctor"), below("k.pem"));
        let (exported, periods) = (below("exported"), below("periods"));
        for arguments in [
            &["keys", "generate", "--out", &ctor][..],
            &["keys", "generate", "--format", "pem", "--out", &pem],
            &["keys", "export", "shop", "--out", &exported, "-c", "arti.toml"],
            &[
                "keys",
                "export-periods",
                "shop",
                "--count",
                "2",
                "--out",
                &periods,
                "-c",
                "arti.toml",
            ],
        ] {
            let made = root_at(dir, arguments);
            assert_eq!(made.status.code(), Some(0), "{arguments:?}: {}", stderr(&made));
            let again = root_at(dir, arguments);
            assert_eq!(again.status.code(), Some(1), "{arguments:?}: {}", stderr(&again));
            assert!(stderr(&again).contains("exists already"), "{}", stderr(&again));
        }
        let owner = if place == "their" { (SERVICE, WWW_DATA) } else { (0, 0) };
        let mut files = vec![dir.join(&pem)];
        for directory in [&ctor, &exported, &periods] {
            let directory = dir.join(directory);
            let found = directory.metadata().unwrap();
            let told = (found.uid(), found.gid(), found.mode() & 0o777);
            assert_eq!(told, (owner.0, owner.1, 0o700), "{}", directory.display());
            files.extend(directory.read_dir().unwrap().map(|it| it.unwrap().path()));
        }
        assert_eq!(files.len(), 1 + 3 + 3 + 2, "{files:?}");
        for file in files {
            let found = file.metadata().unwrap();
            let told = (found.uid(), found.gid(), found.mode() & 0o777);
            assert_eq!(told, (owner.0, owner.1, 0o600), "{}", file.display());
        }
    }
}

#[test]
fn root_is_warned_where_a_new_state_directory_becomes_roots() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    configure(dir, "", "");
    let warning = format!("Warning: there was no {}/volume/state yet", dir.display());
    let made = root(dir, &["keys", "generate", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert!(stderr(&made).contains(&warning), "{}", stderr(&made));
    let exported = root(dir, &["keys", "export", "shop", "--out", "key"]);
    assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    let import = || root(dir, &["keys", "import", "shop", "key"]);
    // It is there now.
    assert!(!stderr(&import()).contains("Warning: there was no"), "{}", stderr(&import()));
    fs::remove_dir_all(dir.join("volume")).unwrap();
    let imported = import();
    assert_eq!(imported.status.code(), Some(0), "{}", stderr(&imported));
    assert!(stderr(&imported).contains(&warning), "{}", stderr(&imported));
    // The directory above says whose it is to be.
    fs::remove_dir_all(dir.join("volume")).unwrap();
    directory(&dir.join("volume"), SERVICE, SERVICE, 0o700);
    let imported = import();
    assert_eq!(imported.status.code(), Some(0), "{}", stderr(&imported));
    assert!(!stderr(&imported).contains("Warning"), "{}", stderr(&imported));
}

#[test]
fn root_is_never_told_to_take_a_volume_from_its_group() {
    if !is_root() {
        return;
    }
    const FS_GROUP: u32 = 20_002;
    let dir = place();
    let dir = dir.path();
    directory(&dir.join("volume"), 0, FS_GROUP, 0o2775);
    configure(dir, "", "");
    assert_eq!(root_at(dir, &["keys", "generate", "--out", "key"]).status.code(), Some(0));
    for arguments in
        [&["keys", "import", "shop", "key", "-c", "arti.toml"][..], &["check", "-c", "arti.toml"]]
    {
        let refused = root_at(dir, arguments);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(77), "{arguments:?}: {said}");
        assert!(!said.contains("chmod"), "{arguments:?}: {said}");
        assert!(said.contains("storage.permissions.trust_group = 20002"), "{arguments:?}: {said}");
    }
    configure(dir, "", "[storage.permissions]\ntrust_group = 20002\n");
    let imported = root_at(dir, &["keys", "import", "shop", "key", "-c", "arti.toml"]);
    assert_eq!(imported.status.code(), Some(0), "what it names helps: {}", stderr(&imported));
}

/// The program as root, which looks at permissions.
fn root_at(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
    command.args(arguments).current_dir(dir).env_remove("ARTI_FS_DISABLE_PERMISSION_CHECKS");
    command.output().unwrap()
}
