//! `onionbraid backup` and `onionbraid restore`: what comes back, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use serde_json::{Value, json};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::unprivileged::{is_root, own};
use super::{onionbraid, stderr, stdout, write};

const SERVICES: &str = "\
[onion_services.shop]
proxy_ports = [[80, \"http://127.0.0.1:8080\"]]
[onion_services.blog]
identity_key = \"keys/blog\"
local_instances = 1
proxy_ports = [[80, \"http://127.0.0.1:8081\"]]
backends_file = \"backends.toml\"
[onion_services.blog.http]
error_pages = { 502 = \"down.html\" }
[storage]
state_dir = \"state\"
";

/// What belongs to a machine, and what makes and opens its backups.
struct Machine {
    dir: TempDir,
    identity: x25519::Identity,
}

impl Machine {
    /// Two services with their keys, one in the keystore and one as C tor has it, and
    /// what a daemon leaves in its state directory.
    fn new() -> Self {
        let machine =
            Self { dir: tempfile::tempdir().unwrap(), identity: x25519::Identity::generate() };
        let dir = machine.dir.path();
        write(dir, "arti.toml", SERVICES);
        write(dir, "more.toml", "[shutdown]\ngrace = \"3s\"\n");
        write(dir, "backends.toml", "backends = []\n");
        write(dir, "down.html", "<p>Down.");
        fs::create_dir(dir.join("keys")).unwrap();
        machine.done(&["keys", "generate", "--out", "keys/blog"]);
        machine.done(&["keys", "generate", "shop", "-c", "arti.toml"]);
        for file in [
            "onionbraid/shop/local-0/points.json",
            "onionbraid/shop/local-0/1.replays",
            "onionbraid/shop/balancer.json",
            "state/guards.json",
            "keystore/hss/shop/ipts/k_hss_ntor",
        ] {
            let file = dir.join("state").join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "what must not come back").unwrap();
        }
        write(dir, "identity", machine.identity.to_string().expose_secret());
        machine
    }

    fn run(&self, arguments: &[&str]) -> Output {
        onionbraid(self.dir.path(), arguments)
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn back_up(&self) {
        let recipient = self.identity.to_public().to_string();
        let files = ["-c", "arti.toml", "-c", "more.toml"];
        self.done(&[&["backup", "backup.age", "--recipient", &recipient], &files[..]].concat());
    }

    fn restore(&self, more: &[&str]) -> Output {
        self.run(&[&["restore", "backup.age", "--identity", "identity"], more].concat())
    }

    /// Takes everything away that a backup brings back.
    fn lose(&self) {
        let away = self.dir.path().join("away");
        fs::create_dir(&away).unwrap();
        for name in ["arti.toml", "more.toml", "backends.toml", "down.html", "keys", "state"] {
            fs::rename(self.dir.path().join(name), away.join(name)).unwrap();
        }
    }

    fn addresses(&self) -> [String; 2] {
        ["shop", "blog"].map(|name| self.done(&["keys", "address", name, "-c", "arti.toml"]))
    }

    /// Replaces the backup by one that somebody else made for the same recipient.
    fn forge(&self, members: &[Member]) {
        let recipient = self.identity.to_public();
        let recipients = [&recipient as &dyn age::Recipient];
        let encryptor = age::Encryptor::with_recipients(recipients.into_iter()).unwrap();
        let file = fs::File::create(self.dir.path().join("backup.age")).unwrap();
        let mut file = encryptor.wrap_output(file).unwrap();
        for member in members {
            member.write(&mut file);
        }
        file.write_all(&[0; 1024]).unwrap();
        file.finish().unwrap();
    }

    /// The files below its directory, but those of the test itself.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![self.dir.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let below =
                    path.strip_prefix(self.dir.path()).unwrap().to_str().unwrap().to_owned();
                match path.is_dir() {
                    true if below != "away" => directories.push(path),
                    false if !matches!(below.as_str(), "backup.age" | "identity") => {
                        found.push(below)
                    }
                    _ => {}
                }
            }
        }
        found.sort();
        found
    }
}

/// A member of a tar, of any kind and with any name.
struct Member {
    name: String,
    kind: EntryType,
    size: u64,
    bytes: Vec<u8>,
}

impl Member {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let (name, bytes) = (name.to_owned(), bytes.to_owned());
        Self { name, kind: EntryType::Regular, size: bytes.len() as u64, bytes }
    }

    fn of_kind(name: &str, kind: EntryType) -> Self {
        Self { kind, ..Self::new(name, b"") }
    }

    /// As it stands, where the library would refuse to write it.
    fn write(&self, tar: &mut impl std::io::Write) {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..self.name.len()].copy_from_slice(self.name.as_bytes());
        header.set_entry_type(self.kind);
        header.set_size(self.size);
        header.set_mode(0o777);
        if self.kind.is_symlink() || self.kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        tar.write_all(header.as_bytes()).unwrap();
        tar.write_all(&self.bytes).unwrap();
        tar.write_all(&vec![0; self.bytes.len().next_multiple_of(512) - self.bytes.len()]).unwrap();
    }
}

fn manifest(state_dir: &str, files: &[Value]) -> Member {
    let manifest = json!({
        "version": 1, "program": "0", "made": "2026-01-01T00:00:00Z", "state_dir": state_dir,
        "files": files,
    });
    Member::new("onionbraid-backup.json", manifest.to_string().as_bytes())
}

fn named(path: &str) -> Value {
    json!({ "path": path, "kind": "named" })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_restored_machine_has_its_addresses_and_nothing_that_must_not_come_back() {
    let machine = Machine::new();
    let dir = machine.dir.path();
    let before = machine.addresses();
    machine.back_up();
    assert_eq!(mode(&dir.join("backup.age")), 0o600);
    machine.lose();
    let output = machine.restore(&["-c", "arti.toml", "-c", "more.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let check = format!("check -c {0}/arti.toml -c {0}/more.toml", dir.display());
    assert!(stderr(&output).contains(&check), "{}", stderr(&output));
    assert_eq!(machine.addresses(), before);

    let files = machine.files();
    let expected = [
        "arti.toml",
        "backends.toml",
        "down.html",
        "keys/blog/hostname",
        "keys/blog/hs_ed25519_public_key",
        "keys/blog/hs_ed25519_secret_key",
        "more.toml",
        "state/keystore/hss/shop/ks_hs_id.ed25519_expanded_private",
    ];
    assert_eq!(files, expected);
    for file in expected {
        let bytes = |below: &Path| fs::read(below.join(file)).unwrap();
        assert_eq!(bytes(dir), bytes(&dir.join("away")), "{file}");
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&dir.join("state/keystore")), 0o700);
}

#[test]
fn a_hidden_key_comes_back_with_what_the_error_names_and_other_hidden_files_do_not() {
    let machine = Machine::new();
    let dir = machine.dir.path();
    machine.done(&["keys", "generate", "--out", ".blog.pem", "--format", "pem"]);
    let text = SERVICES.replace("keys/blog", ".blog.pem");
    write(dir, "arti.toml", &text);
    let key = fs::read(dir.join(".blog.pem")).unwrap();
    machine.back_up();
    machine.lose();
    fs::remove_file(dir.join(".blog.pem")).unwrap();
    let files = ["-c", "arti.toml", "-c", "more.toml"];
    let hidden = dir.join(".blog.pem");
    let below = format!("--below {}", hidden.display());
    for more in [&[][..], &["--below", "."]] {
        let refused = machine.restore(&[&files[..], more].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).lines().any(|line| line.trim() == below), "{}", stderr(&refused));
    }
    assert!(machine.files().is_empty());
    let output = machine.restore(&[&files[..], &["--below", ".blog.pem"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((fs::read(&hidden).unwrap(), mode(&hidden)), (key, 0o600));
}

#[test]
fn what_comes_from_a_credential_is_left_out_and_the_rest_comes_back() {
    let machine = Machine::new();
    let dir = machine.dir.path();
    let shop = machine.addresses()[0].clone();
    let recipient = machine.identity.to_public().to_string();
    let (inside, run) = ("${CREDENTIALS_DIRECTORY}/blog", "/run/secrets/onionbraid-is-not-here");
    for (key, credentials) in [(inside, None), (inside, Some("keys")), (run, None)] {
        write(dir, "arti.toml", &SERVICES.replace("keys/blog", key));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onionbraid"));
        command.current_dir(dir).env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1");
        command.env_remove("CREDENTIALS_DIRECTORY");
        if let Some(below) = credentials {
            command.env("CREDENTIALS_DIRECTORY", dir.join(below));
        }
        let _ = fs::remove_file(dir.join("backup.age"));
        command.args(["backup", "backup.age", "-c", "arti.toml", "--recipient", &recipient]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let left_out = format!("the key {key} comes from a credential: keep its source");
        assert!(stderr(&output).contains(&left_out), "{}", stderr(&output));
        assert!(!stderr(&output).contains("has no key yet"), "{}", stderr(&output));
        let is_known = stderr(&output).contains("service \"blog\": ");
        assert_eq!(is_known, credentials.is_some(), "{}", stderr(&output));

        let listed = stdout(&machine.restore(&["--list"]));
        let keys: Vec<&str> = listed.lines().filter(|line| line.starts_with("key ")).collect();
        assert_eq!(keys.len(), 1, "{listed}");
        assert!(keys[0].contains(shop.trim()), "{listed}");
        assert!(!listed.contains("blog") && !listed.contains("/run/"), "{listed}");
    }
    fs::create_dir(dir.join("away")).unwrap();
    for name in ["arti.toml", "backends.toml", "down.html", "state"] {
        fs::rename(dir.join(name), dir.join("away").join(name)).unwrap();
    }
    let output = machine.restore(&["-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("blog"), "{}", stderr(&output));
}

#[test]
fn nothing_is_overwritten_by_a_restore_and_all_that_is_in_the_way_is_named() {
    let machine = Machine::new();
    let dir = machine.dir.path();
    machine.back_up();
    machine.lose();
    fs::create_dir_all(dir.join("state/keystore/hss/shop")).unwrap();
    write(dir, "down.html", "mine");
    write(dir, "state/keystore/hss/shop/ks_hs_id.ed25519_expanded_private", "a key");
    let before = machine.files();
    let output = machine.restore(&["-c", "arti.toml", "-c", "more.toml"]);
    assert_eq!(output.status.code(), Some(1));
    for name in ["down.html", "ks_hs_id.ed25519_expanded_private"] {
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
    }
    assert!(!stderr(&output).contains("backends.toml"), "{}", stderr(&output));
    assert_eq!(machine.files(), before);
    assert_eq!(fs::read_to_string(dir.join("down.html")).unwrap(), "mine");
}

#[test]
fn a_backup_overwrites_no_file_and_follows_no_link_to_a_new_one() {
    let machine = Machine::new();
    write(machine.dir.path(), "backup.age", "an older one");
    symlink("elsewhere", machine.dir.path().join("link")).unwrap();
    let recipient = machine.identity.to_public().to_string();
    for name in ["backup.age", "link"] {
        let output = machine.run(&["backup", name, "--recipient", &recipient, "-c", "arti.toml"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("exists already"), "{}", stderr(&output));
    }
    assert_eq!(fs::read_to_string(machine.dir.path().join("backup.age")).unwrap(), "an older one");
    assert!(!machine.dir.path().join("elsewhere").exists());
}

#[test]
fn a_passphrase_opens_a_backup_and_a_wrong_one_is_said_to_be_wrong() {
    let machine = Machine::new();
    write(machine.dir.path(), "right", "correct horse\nbattery\n");
    write(machine.dir.path(), "wrong", "correct horse battery\n");
    write(machine.dir.path(), "empty", "\nsecond line\n");
    let back_up = ["backup", "b", "-c", "arti.toml", "--passphrase-file"];
    let output = machine.run(&[&back_up[..], &["empty"]].concat());
    assert_eq!((output.status.code(), stderr(&output).contains("is empty")), (Some(2), true));
    machine.done(&[&back_up[..], &["right"]].concat());
    let listed = machine.done(&["restore", "b", "--list", "--passphrase-file", "right"]);
    assert!(listed.contains(machine.addresses()[0].trim()), "{listed}");
    let wrong = machine.run(&["restore", "b", "--list", "--passphrase-file", "wrong"]);
    assert_eq!(wrong.status.code(), Some(77));
    assert_eq!(
        stderr(&wrong).trim().lines().last(),
        Some("onionbraid: b: the passphrase is wrong")
    );
    let identity = machine.run(&["restore", "b", "--list", "--identity", "identity"]);
    assert_eq!(identity.status.code(), Some(2));
    assert!(stderr(&identity).contains("a passphrase opens it"), "{}", stderr(&identity));
}

#[test]
fn each_recipient_can_open_a_backup_and_nobody_else() {
    let machine = Machine::new();
    let others = [x25519::Identity::generate(), x25519::Identity::generate()];
    let recipients = [machine.identity.to_public(), others[0].to_public()].map(|it| it.to_string());
    let recipients = ["--recipient", &recipients[0], "--recipient", &recipients[1]];
    machine.done(&[&["backup", "b", "-c", "arti.toml"][..], &recipients].concat());
    let keygen =
        format!("# created: now\n# public key: x\n{}\n", others[0].to_string().expose_secret());
    write(machine.dir.path(), "second", &keygen);
    write(machine.dir.path(), "stranger", others[1].to_string().expose_secret());
    write(machine.dir.path(), "none", "# nothing\n");
    for (file, code, said) in [
        ("identity", 0, ""),
        ("second", 0, ""),
        ("stranger", 77, "was not encrypted for any of these identities"),
        ("none", 77, "no identity file"),
        ("arti.toml", 77, "no identity file"),
        ("missing", 1, "cannot be read"),
    ] {
        let output = machine.run(&["restore", "b", "--list", "--identity", file]);
        assert_eq!(output.status.code(), Some(code), "{file}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{file}: {}", stderr(&output));
    }
    let none = machine.run(&["restore", "b", "--list"]);
    assert_eq!(none.status.code(), Some(2), "{}", stderr(&none));
    for wrong in ["age1nonsense", "ssh-ed25519 AAAA"] {
        let output = machine.run(&["backup", "c", "--recipient", wrong, "-c", "arti.toml"]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    }
    assert!(!machine.dir.path().join("c").exists());
}

#[test]
fn a_backup_is_what_age_and_tar_understand() {
    let machine = Machine::new();
    machine.back_up();
    let file = fs::File::open(machine.dir.path().join("backup.age")).unwrap();
    let opened = age::Decryptor::new(file).unwrap();
    let identities = [&machine.identity as &dyn age::Identity];
    let mut tar = tar::Archive::new(opened.decrypt(identities.into_iter()).unwrap());
    let path =
        |entry: std::io::Result<tar::Entry<'_, _>>| entry.unwrap().path().unwrap().into_owned();
    let paths: Vec<_> = tar.entries().unwrap().map(path).collect();
    assert_eq!(paths[0], Path::new("onionbraid-backup.json"));
    let file = format!("files{}/arti.toml", machine.dir.path().display());
    assert_eq!(paths[1], Path::new(&file));
}

#[test]
fn without_a_configuration_that_is_good_there_is_no_backup() {
    let machine = Machine::new();
    let recipient = machine.identity.to_public().to_string();
    let back_up = |file| machine.run(&["backup", "b", "--recipient", &recipient, "-c", file]);
    write(machine.dir.path(), "bad.toml", "[onion_services.shop]\nproxy_port = 1\n");
    assert_eq!(back_up("bad.toml").status.code(), Some(78));
    // A key that cannot be used is no key to bring back.
    fs::write(machine.dir.path().join("keys/blog/hs_ed25519_secret_key"), "damaged").unwrap();
    let output = back_up("arti.toml");
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    assert!(!machine.dir.path().join("b").exists());
}

#[test]
fn a_service_without_a_key_is_named_and_so_is_what_is_left_out() {
    let machine = Machine::new();
    let more = "[onion_services.new]\nproxy_ports = [[80, \"file:keys\"]]\n";
    write(machine.dir.path(), "new.toml", more);
    let recipient = machine.identity.to_public().to_string();
    let files = ["-c", "arti.toml", "-c", "new.toml"];
    let output = machine.run(&[&["backup", "b", "--recipient", &recipient], &files[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("service \"new\" has no key yet"), "{said}");
    assert!(
        said.contains(&format!("the files in {}/keys", machine.dir.path().display())),
        "{said}"
    );
}

#[test]
fn what_lies_elsewhere_comes_back_only_where_the_operator_says_so() {
    let machine = Machine::new();
    let dir = machine.dir.path();
    let before = machine.addresses();
    machine.back_up();
    machine.lose();
    let output = machine.restore(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("-c {}/arti.toml", dir.display())));
    // The configuration's directory is enough for the rest.
    assert!(!stderr(&output).contains("--below"), "{}", stderr(&output));
    assert!(machine.files().is_empty(), "{:?}", machine.files());

    let into = machine.restore(&["--into", "other"]);
    assert_eq!(into.status.code(), Some(0), "{}", stderr(&into));
    let below = dir.join("other").join(dir.strip_prefix("/").unwrap());
    let blog = below.join("keys/blog");
    assert_eq!(machine.done(&["keys", "address", blog.to_str().unwrap()]), before[1]);
    let again = machine.restore(&["--into", "other"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("other"), "{}", stderr(&again));
}

#[test]
fn a_hostile_backup_is_refused_and_writes_nothing() {
    let machine = Machine::new();
    let dir = machine.dir.path().to_owned();
    machine.lose();
    let state = dir.join("state").to_str().unwrap().to_owned();
    let inside = |name: &str| format!("{}/{name}", dir.display());
    let plain = inside("page");
    let member = format!("files{plain}");
    let of_kind = |kind| vec![manifest(&state, &[named(&plain)]), Member::of_kind(&member, kind)];
    let path = |path: &str| {
        vec![manifest(&state, &[named(path)]), Member::new(&format!("files{path}"), b"x")]
    };
    let configuration = json!({ "path": inside("arti.toml"), "kind": "configuration" });
    let toml = || Member::new(&format!("files{}", inside("arti.toml")), b"");
    let beside = |path: &str| {
        let file = Member::new(&format!("files{path}"), b"x");
        vec![manifest(&state, &[configuration.clone(), named(path)]), toml(), file]
    };
    let said = |made: &str| {
        let manifest = json!({
            "version": 1, "program": "0", "made": made, "state_dir": state,
            "files": [configuration],
        });
        vec![Member::new("onionbraid-backup.json", manifest.to_string().as_bytes()), toml()]
    };
    let key = |address: &str, bytes: &[u8]| {
        let file = json!({ "path": plain, "kind": "key", "address": address });
        vec![manifest(&state, &[file]), Member::new(&member, bytes)]
    };
    let other = |kind: &str| {
        let file = json!({ "path": plain, "kind": kind });
        vec![manifest(&state, &[file]), Member::new(&member, b"x")]
    };
    let secret = fs::read(dir.join("away/keys/blog/hs_ed25519_secret_key")).unwrap();
    let public = fs::read(dir.join("away/keys/blog/hs_ed25519_public_key")).unwrap();
    let long = Member { size: 5 << 20, ..Member::new(&member, &vec![0; 5 << 20]) };
    let promised = Member { size: 1 << 60, ..Member::new(&member, b"x") };
    let many: Vec<Value> = (0..5000).map(|number| named(&inside(&number.to_string()))).collect();
    let outside = dir.parent().unwrap().join("onionbraid-was-here");
    let cases: Vec<(&str, Vec<Member>, &str)> = vec![
        ("steps back", path(&inside("../onionbraid-was-here")), "`..`"),
        ("a step that stays", path(&inside("./x")), "`..`"),
        ("empty parts", path(&inside("/x")), "`..`"),
        ("no key of a client", other("client_key"), "no key of a client"),
        ("no client", other("client"), "no public key of a client"),
        ("a kind that nobody knows", other("program"), "not what it should be"),
        (
            "another member with steps back",
            vec![
                manifest(&state, &[named(&plain)]),
                Member::new(&format!("files{}/../../onionbraid-was-here", dir.display()), b"x"),
            ],
            "should be here",
        ),
        (
            "a relative path",
            vec![manifest(&state, &[named("x")]), Member::new("filesx", b"x")],
            "absolute",
        ),
        (
            "an absolute name",
            vec![manifest(&state, &[named(&plain)]), Member::new(&plain, b"x")],
            "should be here",
        ),
        ("control characters", path(&inside("a\u{1b}[2Jb")), "control characters"),
        ("elsewhere", beside("/etc/cron.d/onionbraid-was-here"), "--below /etc/cron.d"),
        ("a hidden file", beside(&inside(".profile")), "--below"),
        ("a name that is turned around", path(&inside("\u{202e}lmth.x")), "cannot be seen"),
        ("lines of its own", said("2026-01-01T00:00:00Z\nkey /x\u{1b}[8m"), "RFC 3339"),
        ("no time", said("yesterday"), "RFC 3339"),
        ("nothing to start with", vec![manifest(&state, &[])], "no configuration file"),
        (
            "another configuration",
            vec![
                manifest(&state, &[json!({ "path": inside("x"), "kind": "configuration" })]),
                Member::new(&format!("files{}", inside("x")), b""),
            ],
            "-c ",
        ),
        (
            "state elsewhere",
            vec![manifest("/etc", std::slice::from_ref(&configuration)), toml()],
            "--below /etc",
        ),
        ("a symbolic link", of_kind(EntryType::Symlink), "a link"),
        ("a link", of_kind(EntryType::Link), "a link"),
        ("a device", of_kind(EntryType::Char), "no ordinary file"),
        ("a block device", of_kind(EntryType::Block), "no ordinary file"),
        ("a pipe", of_kind(EntryType::Fifo), "no ordinary file"),
        ("a directory", of_kind(EntryType::Directory), "a directory"),
        ("a sparse file", of_kind(EntryType::GNUSparse), ""),
        (
            "a link for a manifest",
            vec![Member::of_kind("onionbraid-backup.json", EntryType::Symlink)],
            "a link",
        ),
        ("a long file", vec![manifest(&state, &[named(&plain)]), long], "longer than 4 MiB"),
        (
            "a file that is said to be huge",
            vec![manifest(&state, &[named(&plain)]), promised],
            "longer than 4 MiB",
        ),
        ("too many files", vec![manifest(&state, &many)], "4,096 files"),
        (
            "one file twice",
            vec![
                manifest(&state, &[named(&plain), named(&plain)]),
                Member::new(&member, b"x"),
                Member::new(&member, b"x"),
            ],
            "twice",
        ),
        (
            "a file as a directory",
            vec![
                manifest(&state, &[named(&plain), named(&inside("page/below"))]),
                Member::new(&member, b"x"),
                Member::new(&format!("{member}/below"), b"x"),
            ],
            "a file and a directory",
        ),
        ("a file that is not there", vec![manifest(&state, &[named(&plain)])], "is missing"),
        (
            "a file that nobody said",
            vec![manifest(&state, &[]), Member::new(&member, b"x")],
            "does not say",
        ),
        ("no manifest", vec![Member::new(&member, b"x")], "does not begin with"),
        (
            "a manifest of another kind",
            vec![Member::new("onionbraid-backup.json", b"[]")],
            "not what it should be",
        ),
        ("nothing", vec![], "it is empty"),
        (
            "another version",
            vec![Member::new(
                "onionbraid-backup.json",
                br#"{"version":2,
            "program":"9","made":"","state_dir":"/x","files":[]}"#,
            )],
            "use a newer one",
        ),
        ("a key of another address", key("x.onion", &secret), "another address"),
        ("no key", key("x.onion", b"* * * * * root reboot"), "no identity key"),
        ("a public key", key("x.onion", &public), "a public key"),
        (
            "a lonely hostname",
            vec![
                manifest(&state, &[json!({ "path": plain, "kind": "beside_key" })]),
                Member::new(&member, b"x"),
            ],
            "beside a key",
        ),
        (
            "no configuration",
            vec![
                manifest(
                    &state,
                    &[json!({ "path": inside("arti.toml"), "kind": "configuration" })],
                ),
                Member::new(&format!("files{}", inside("arti.toml")), b"#!/bin/sh\nreboot"),
            ],
            "no TOML",
        ),
    ];
    for (case, members, problem) in cases {
        machine.forge(&members);
        let output = machine.restore(&["-c", "arti.toml"]);
        assert_eq!(output.status.code(), Some(1), "{case}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{case}: {}", stderr(&output));
        assert!(!stderr(&output).contains(['\u{1b}', '\u{202e}']), "{case}");
        let listed = machine.restore(&["--list"]);
        assert!(!stdout(&listed).contains(['\u{1b}', '\u{202e}']), "{case}");
        assert!(machine.files().is_empty(), "{case}: {:?}", machine.files());
        assert!(!outside.exists(), "{case}");
    }
}

#[test]
fn a_backup_that_was_cut_off_or_changed_is_refused_and_writes_nothing() {
    let machine = Machine::new();
    machine.back_up();
    machine.lose();
    let whole = fs::read(machine.dir.path().join("backup.age")).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    let mut more = whole.clone();
    more.extend(b"more");
    let cut = |length: usize| whole[..length].to_vec();
    for (case, bytes) in [
        ("empty", Vec::new()),
        ("within its header", cut(20)),
        ("without contents", cut(200)),
        ("without its last byte", cut(whole.len() - 1)),
        ("changed", changed),
        ("longer", more),
        ("something else", b"[onion_services]\n".to_vec()),
    ] {
        fs::write(machine.dir.path().join("backup.age"), bytes).unwrap();
        let output = machine.restore(&["-c", "arti.toml", "-c", "more.toml"]);
        assert_eq!(output.status.code(), Some(1), "{case}: {}", stderr(&output));
        assert!(machine.files().is_empty(), "{case}: {:?}", machine.files());
    }
}

#[test]
fn root_gives_keys_to_the_owner_of_the_state_directory_and_lets_it_read_the_rest() {
    if !is_root() {
        return;
    }
    const USER: u32 = 4711;
    let machine = Machine::new();
    let dir = machine.dir.path();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    own(&dir.join("state"), USER);
    own(&dir.join("keys"), USER);
    machine.back_up();
    machine.lose();
    fs::create_dir(dir.join("state")).unwrap();
    own(&dir.join("state"), USER);
    let output = machine.restore(&["-c", "arti.toml", "-c", "more.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = |name: &str| {
        let found = fs::metadata(dir.join(name)).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    for name in [
        "keys/blog/hs_ed25519_secret_key",
        "keys/blog/hostname",
        "state/keystore/hss/shop/ks_hs_id.ed25519_expanded_private",
    ] {
        assert_eq!(told(name), (USER, USER, 0o600), "{name}");
    }
    assert_eq!(told("keys/blog"), (USER, USER, 0o700));
    assert_eq!(told("state/keystore/hss"), (USER, USER, 0o700));
    for name in ["arti.toml", "backends.toml", "down.html"] {
        assert_eq!(told(name), (0, USER, 0o640), "{name}");
    }
}

#[test]
fn a_backup_never_goes_to_a_terminal_and_needs_one_to_ask_at() {
    let machine = Machine::new();
    let mut command = super::unprivileged::command("setsid");
    let output = command
        .args(["-w", env!("CARGO_BIN_EXE_onionbraid"), "restore", "backup.age"])
        .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1");
    machine.done(&{
        write(machine.dir.path(), "p", "x");
        ["backup", "backup.age", "-c", "arti.toml", "--passphrase-file", "p"]
    });
    fs::set_permissions(machine.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(machine.dir.path().join("backup.age"), readable).unwrap();
    let output = output.current_dir(machine.dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--passphrase-file"), "{}", stderr(&output));
}

/// Every key of the configuration that is a path, as the schema says, and the files that
/// come back of what the configuration below names there.
const PATHS: [(&str, &[&str]); 11] = [
    ("identity_key", &["hs/hs_ed25519_secret_key", "hs/hs_ed25519_public_key", "hs/hostname"]),
    ("client_key", &["origin.auth_private"]),
    ("path", &["clients/alice.auth"]),
    ("backends_file", &["backends.toml"]),
    ("certificate", &["site.pem"]),
    ("key", &["site.key"]),
    ("ca_file", &["ca.pem"]),
    // Of `error_pages`.
    ("^[45][0-9][0-9](-[45][0-9][0-9])?$", &["down.html"]),
    ("state_dir", &["state/keystore/hss/shop/ks_hs_id.ed25519_expanded_private"]),
    // What can be fetched again, or exported on the machine that has the identity key.
    ("cache_dir", &[]),
    ("identity_bundle", &[]),
];

/// All keys below a value of the schema that are paths.
fn paths_in(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                if value["allOf"][0]["$ref"] == "#/definitions/path" {
                    found.insert(key.clone());
                }
                paths_in(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| paths_in(value, found)),
        _ => {}
    }
}

#[test]
fn every_file_that_a_configuration_can_name_comes_back_and_secret_ones_for_their_owner_alone() {
    let schema: Value =
        serde_json::from_str(include_str!("../../packaging/arti.schema.json")).unwrap();
    let mut paths = BTreeSet::new();
    paths_in(&schema, &mut paths);
    let known: BTreeSet<String> = PATHS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(paths, known, "say here what comes back of it");

    let machine = Machine::new();
    let dir = machine.dir.path();
    fs::create_dir(dir.join("clients")).unwrap();
    let origin = machine.done(&["keys", "address", "shop", "-c", "arti.toml"]);
    let origin = origin.trim();
    let line = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    machine.done(&["keys", "generate", "--out", "hs"]);
    let text = format!(
        "\
[onion_services.shop]
proxy_ports = [
    [80, \"http://127.0.0.1:8080\"],
    [443, \"http://127.0.0.1:8080\", {{ tls = {{ certificate = \"site.pem\", key = \"site.key\" }} }}],
]
[onion_services.shop.http]
error_pages = {{ 502 = \"down.html\" }}
tls = {{ ca_file = \"ca.pem\" }}
[onion_services.blog]
identity_key = \"hs\"
backends = [{{ address = \"{origin}\", client_key = \"origin.auth_private\" }}]
backends_file = \"backends.toml\"
[onion_services.blog.restricted_discovery]
enabled = true
key_dirs = [{{ path = \"{}\" }}]
[storage]
state_dir = \"state\"
cache_dir = \"cache\"
",
        line("clients")
    );
    write(dir, "arti.toml", &text);
    let ca = include_str!("../config/http-files/ca.pem");
    write(dir, "ca.pem", ca);
    let made = rcgen::generate_simple_self_signed([origin.to_owned()]).unwrap();
    write(dir, "site.pem", &made.cert.pem());
    write(dir, "site.key", &made.signing_key.serialize_pem());
    let secret = "A".repeat(52);
    let bare = origin.trim_end_matches(".onion");
    write(dir, "origin.auth_private", &format!("{bare}:descriptor:x25519:{secret}\n"));
    let public = "N2NU7BSRL6YODZCYPN4CREB54TYLKGIE2KYOQWLFYC23ZJVCE5DQ";
    write(dir, "clients/alice.auth", &format!("descriptor:x25519:{public}\n"));
    // What lets nobody in is named, and does not keep the rest from being saved.
    write(dir, "clients/mallory.auth", "nothing");
    let recipient = machine.identity.to_public().to_string();
    let output =
        machine.run(&["backup", "backup.age", "--recipient", &recipient, "-c", "arti.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("mallory.auth"), "{}", stderr(&output));

    let expected: Vec<&str> = PATHS.iter().flat_map(|(_, files)| files.iter().copied()).collect();
    let before: Vec<Vec<u8>> =
        expected.iter().map(|file| fs::read(dir.join(file)).unwrap()).collect();
    let output = machine.restore(&["--into", "other"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let below = dir.join("other").join(dir.strip_prefix("/").unwrap());
    for (file, before) in expected.iter().zip(before) {
        assert_eq!(fs::read(below.join(file)).unwrap(), before, "{file}");
        assert_eq!(mode(&below.join(file)), 0o600, "{file}");
    }
    assert!(!below.join("clients/mallory.auth").exists());
    assert_eq!(mode(&below.join("clients")), 0o700);
    let there = machine.restore(&["--list"]);
    for kind in ["client-key", "client", "certificate-key"] {
        assert!(stdout(&there).lines().any(|line| line.starts_with(kind)), "{}", stdout(&there));
    }
    // The same places, which are not free.
    let again = machine.restore(&["-c", "arti.toml"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("origin.auth_private"), "{}", stderr(&again));
}
