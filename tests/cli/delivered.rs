//! Keys and directories as platforms deliver them: `check` takes them as they are,
//! or says what to do there. Root alone can play a platform.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::unprivileged::{Process, is_root, until};
use super::{stderr, stdout, write};

/// A user without an entry in `/etc/passwd`.
pub(super) const SERVICE: u32 = 65_532;
/// A group without an entry in `/etc/group`, as Kubernetes gives one.
const FS_GROUP: u32 = 20_002;
/// A group with a user of its own, of every Debian.
pub(super) const WWW_DATA: u32 = 33;
pub(super) const STRANGER: u32 = 54_321;

/// A directory that everybody can enter, below which nothing is made.
pub(super) fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

fn set(path: &Path, user: u32, group: u32, mode: u32) {
    chown(path, Some(user), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub(super) fn directory(path: &Path, user: u32, group: u32, mode: u32) {
    fs::create_dir_all(path).unwrap();
    set(path, user, group, mode);
}

/// The key of a service of nobody's.
fn key(path: &Path, user: u32, group: u32, mode: u32) {
    let elsewhere = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(["keys", "generate", "--format", "pem", "--out"])
        .arg(elsewhere.path().join("key"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    fs::copy(elsewhere.path().join("key"), path).unwrap();
    set(path, user, group, mode);
}

/// Nothing in it leads to a network.
pub(super) fn configure(dir: &Path, service: &str, more: &str) {
    let text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"http://127.0.0.1:1\"]]\n{service}\n\
         [storage]\nstate_dir = \"{0}/volume/state\"\ncache_dir = \"{0}/volume/cache\"\n{more}\n\
         [tor_network]\nfallback_caches = [{{ rsa_identity = \
         \"911F7C74212214823DDBDE3044B5B1AF3EFB98A0\", ed_identity = \
         \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", orports = [\"127.0.0.1:1\"] }}]\n",
        dir.display()
    );
    write(dir, "arti.toml", &text);
}

/// The program as the service, with these further groups and this environment.
fn service(dir: &Path, groups: &[u32], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={SERVICE}"), format!("--regid={SERVICE}")]);
    match groups {
        [] => command.arg("--clear-groups"),
        groups => {
            let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
            command.arg(format!("--groups={}", groups.join(",")))
        }
    };
    let path = std::env::var_os("PATH").unwrap();
    command.arg(env!("CARGO_BIN_EXE_onionbraid")).current_dir(dir).env_clear().env("PATH", path);
    command.envs(environment.iter().copied());
    command
}

fn check(dir: &Path, groups: &[u32]) -> Output {
    service(dir, groups, &[]).args(["check", "-c", "arti.toml"]).output().unwrap()
}

/// A key that is delivered, and what `check` comes to.
struct Delivery {
    name: &'static str,
    groups: &'static [u32],
    /// Where the key lies.
    key: &'static str,
    /// What the complaint says; nothing is to be complained of where there is none.
    says: &'static [&'static str],
    make: fn(&Path),
}

/// What Kubernetes makes of a Secret with one key.
fn secret_volume(dir: &Path, group: u32, mode: u32) {
    let data = dir.join("secret/..2026_11_26");
    directory(&dir.join("secret"), 0, group, 0o3777);
    directory(&data, 0, group, 0o2755);
    key(&data.join("shop"), 0, group, mode);
    symlink("..2026_11_26", dir.join("secret/..data")).unwrap();
    symlink("..data/shop", dir.join("secret/shop")).unwrap();
}

/// A list of acl(5) that lets the service do with a file what its owner may.
fn grant(path: &Path, user: u32, permissions: u16) {
    let mut list = vec![2, 0, 0, 0];
    let all = u32::MAX;
    let entries = [
        (0x01_u16, permissions, all),
        (0x02, permissions, user),
        (0x04, 0, all),
        (0x10, permissions, all),
        (0x20, 0, all),
    ];
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &list, none).unwrap();
}

const DELIVERIES: &[Delivery] = &[
    Delivery {
        name: "LoadCredential=, the user's own",
        groups: &[],
        key: "credentials/shop",
        says: &[],
        make: |dir| {
            directory(&dir.join("credentials"), SERVICE, SERVICE, 0o500);
            key(&dir.join("credentials/shop"), SERVICE, SERVICE, 0o400);
        },
    },
    Delivery {
        name: "LoadCredential=, root's with an access control list",
        groups: &[],
        key: "credentials/shop",
        says: &[],
        make: |dir| {
            directory(&dir.join("credentials"), 0, 0, 0o500);
            key(&dir.join("credentials/shop"), 0, 0, 0o400);
            grant(&dir.join("credentials"), SERVICE, 5);
            grant(&dir.join("credentials/shop"), SERVICE, 4);
        },
    },
    Delivery {
        name: "an access control list for another user as well",
        groups: &[FS_GROUP],
        key: "shop",
        says: &["others can read or change", "0440"],
        make: |dir| {
            key(&dir.join("shop"), SERVICE, SERVICE, 0o400);
            grant(&dir.join("shop"), STRANGER, 4);
        },
    },
    Delivery {
        name: "Secret volume with fsGroup",
        groups: &[FS_GROUP],
        key: "secret/shop",
        says: &[],
        make: |dir| secret_volume(dir, FS_GROUP, 0o440),
    },
    Delivery {
        name: "Secret volume with Kubernetes' default mode",
        groups: &[FS_GROUP],
        key: "secret/shop",
        says: &["(mode 0644)", "defaultMode: 0440", "fsGroup", "dangerously_trust_everyone"],
        make: |dir| secret_volume(dir, FS_GROUP, 0o644),
    },
    Delivery {
        name: "Secret volume for another group",
        groups: &[],
        key: "secret/shop",
        says: &["UID 65532 may not read it"],
        make: |dir| secret_volume(dir, FS_GROUP, 0o440),
    },
    Delivery {
        name: "a group that another user is in",
        groups: &[WWW_DATA],
        key: "secret/shop",
        says: &["(mode 0440)", "storage.permissions.trust_group", "mode 0400 for UID 65532"],
        make: |dir| secret_volume(dir, WWW_DATA, 0o440),
    },
    Delivery {
        name: "Docker's mode behind a door of the service's own",
        groups: &[],
        key: "secrets/shop",
        says: &[],
        make: |dir| {
            directory(&dir.join("secrets"), SERVICE, SERVICE, 0o700);
            key(&dir.join("secrets/shop"), 0, 0, 0o444);
        },
    },
    Delivery {
        name: "Docker's mode where everybody can go",
        groups: &[],
        key: "secrets/shop",
        says: &["(mode 0444)", "mode: 0400", "uid: \"65532\""],
        make: |dir| {
            directory(&dir.join("secrets"), 0, 0, 0o755);
            key(&dir.join("secrets/shop"), 0, 0, 0o444);
        },
    },
    Delivery {
        name: "the service's own file, open to all",
        groups: &[],
        key: "shop",
        says: &["(mode 0644)", "chmod 600 "],
        make: |dir| key(&dir.join("shop"), SERVICE, SERVICE, 0o644),
    },
    Delivery {
        name: "a directory in which others could exchange the key",
        groups: &[],
        key: "open/shop",
        says: &["(mode 0777)", "storage.permissions.ignore_prefix"],
        make: |dir| {
            directory(&dir.join("open"), 0, 0, 0o777);
            key(&dir.join("open/shop"), SERVICE, SERVICE, 0o400);
        },
    },
    Delivery {
        name: "another user's file",
        groups: &[],
        key: "shop",
        says: &["belongs to another user (UID 54321)", "storage.permissions.trust_user = 54321"],
        make: |dir| key(&dir.join("shop"), STRANGER, STRANGER, 0o444),
    },
];

#[test]
fn a_key_is_refused_only_where_others_could_read_it_and_what_helps_there_is_said() {
    if !is_root() {
        return;
    }
    let mut wrong = String::new();
    for delivery in DELIVERIES {
        let dir = place();
        let dir = dir.path();
        directory(&dir.join("volume"), SERVICE, SERVICE, 0o700);
        configure(dir, &format!("identity_key = \"{}\"", delivery.key), "");
        (delivery.make)(dir);
        let output = check(dir, delivery.groups);
        let (said, code) = (stderr(&output), output.status.code());
        let expected = if delivery.says.is_empty() { 0 } else { 77 };
        let told = delivery.says.iter().all(|words| said.contains(words));
        if code != Some(expected) || !told {
            wrong += &format!("\n--- {}: {code:?}\n{said}\n", delivery.name);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// `check` where only this test sees what a script mounts.
fn check_where(dir: &Path, mounted: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{mounted}; exec \"$@\""), "sh"]);
    let program = service(dir, &[], &[]);
    command.arg(program.get_program()).args(program.get_args());
    command.args(["check", "-c", "arti.toml"]).current_dir(dir).env_remove("HOME");
    command.output().unwrap()
}

#[test]
fn a_secret_that_is_a_mount_by_itself_is_the_containers_without_any_other_mark() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    directory(&dir.join("volume"), SERVICE, SERVICE, 0o700);
    configure(dir, "identity_key = \"/run/secrets/shop\"", "");
    key(&dir.join("shop"), 0, 0, 0o444);
    // As Podman does it, whose mark is missing where the root is read-only.
    let run = "mount -t tmpfs -o mode=755 none /run; mkdir /run/secrets";
    let own = "touch /run/secrets/shop; mount --bind shop /run/secrets/shop";
    let taken = check_where(dir, &format!("{run}; {own}"));
    assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
    let copied = check_where(dir, &format!("{run}; cp -p shop /run/secrets/shop"));
    assert_eq!(copied.status.code(), Some(77), "{}", stderr(&copied));
    // Root's alone counts.
    set(&dir.join("shop"), STRANGER, STRANGER, 0o444);
    let refused = check_where(dir, &format!("{run}; {own}"));
    assert_eq!(refused.status.code(), Some(77), "{}", stderr(&refused));
}

#[test]
fn what_the_complaint_names_lets_the_key_in() {
    if !is_root() {
        return;
    }
    let cases = [
        (0o440, "trust_group = 33"),
        (0o440, "trust_group = \"www-data\""),
        (0o644, "dangerously_trust_everyone = true"),
    ];
    for (mode, line) in cases {
        let dir = place();
        let dir = dir.path();
        directory(&dir.join("volume"), SERVICE, SERVICE, 0o700);
        configure(dir, "identity_key = \"secret/shop\"", "");
        secret_volume(dir, WWW_DATA, mode);
        assert_eq!(check(dir, &[WWW_DATA]).status.code(), Some(77), "{line}");
        let permissions = format!("[storage.permissions]\n{line}\n");
        configure(dir, "identity_key = \"secret/shop\"", &permissions);
        let output = check(dir, &[WWW_DATA]);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
    }
}

#[test]
fn a_volume_of_the_services_group_holds_state_and_the_daemon_agrees() {
    if !is_root() {
        return;
    }
    for below in ["", "/state"] {
        let dir = place();
        let dir = dir.path();
        directory(&dir.join("volume"), 0, FS_GROUP, 0o2775);
        configure(dir, "", "");
        let text = fs::read_to_string(dir.join("arti.toml")).unwrap();
        let text = text.replace("/volume/state\"", &format!("/volume{below}\""));
        write(dir, "arti.toml", &text);
        // Without a home, as in an image without users.
        for home in [&[][..], &[("HOME", "/")]] {
            let arguments = ["check", "-c", "arti.toml"];
            let output = service(dir, &[FS_GROUP], home).args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        }
        assert!(fs::read_dir(dir.join("volume")).unwrap().next().is_none(), "check made something");
        let mut run = service(dir, &[FS_GROUP], &[]);
        let daemon = Process::start(run.args(["run", "-c", "arti.toml"]));
        let state = dir.join(format!("volume{below}"));
        until("the daemon's socket", || state.join("admin.sock").exists());
        let mode = |path: &str| state.join(path).metadata().unwrap().mode() & 0o777;
        assert_eq!(mode("keystore"), 0o700);
        drop(daemon);
        assert_eq!(check(dir, &[FS_GROUP]).status.code(), Some(0));
        // Another group's, that this process happens to be in.
        set(&dir.join("volume"), 0, WWW_DATA, 0o2775);
        let refused = check(dir, &[WWW_DATA]);
        assert_eq!(refused.status.code(), Some(77), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("`storage.permissions."), "{}", stderr(&refused));
    }
}

#[test]
fn a_credential_is_named_by_the_directory_that_systemd_gives() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    directory(&dir.join("volume"), SERVICE, SERVICE, 0o700);
    directory(&dir.join("credentials"), SERVICE, SERVICE, 0o500);
    key(&dir.join("credentials/shop"), SERVICE, SERVICE, 0o400);
    configure(dir, "identity_key = \"${CREDENTIALS_DIRECTORY}/shop\"", "");
    let credentials = dir.join("credentials");
    let environment = [("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap())];
    let arguments = ["check", "-c", "arti.toml"];
    let output = service(dir, &[], &environment).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("credentials/shop"), "{}", stdout(&output));
    let outside = check(dir, &[]);
    assert_eq!(outside.status.code(), Some(78));
    assert!(stderr(&outside).contains("LoadCredential="), "{}", stderr(&outside));
}

/// The program as root.
pub(super) fn root(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
    command.args(arguments).args(["-c", "arti.toml"]).current_dir(dir).env_clear();
    command.env("HOME", "/nonexistent").output().unwrap()
}

#[test]
fn keys_that_root_makes_or_takes_from_another_user_are_the_services() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    directory(&dir.join("volume"), SERVICE, SERVICE, 0o700);
    let blog = "[onion_services.blog]\nproxy_ports = [[80, \"http://127.0.0.1:1\"]]";
    configure(dir, blog, "");
    let made = root(dir, &["keys", "generate", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    // A HiddenServiceDir of the user that runs tor.
    let of_tor = root(dir, &["keys", "generate", "--out", "tor"]);
    assert_eq!(of_tor.status.code(), Some(0), "{}", stderr(&of_tor));
    for entry in fs::read_dir(dir.join("tor")).unwrap() {
        set(&entry.unwrap().path(), STRANGER, STRANGER, 0o600);
    }
    set(&dir.join("tor"), STRANGER, STRANGER, 0o2700);
    for remark in ["too now", "this key already"] {
        let taken = root(dir, &["keys", "import", "blog", "tor"]);
        assert_eq!(taken.status.code(), Some(0), "{}", stderr(&taken));
        assert_eq!(stdout(&taken), stdout(&of_tor));
        assert!(stderr(&taken).contains(remark), "{}", stderr(&taken));
    }
    let mut places = vec![dir.join("volume/state")];
    let mut files = 0;
    while let Some(place) = places.pop() {
        let found = place.metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (SERVICE, SERVICE), "{}", place.display());
        assert_eq!(found.mode() & 0o077, 0, "{}", place.display());
        match found.is_dir() {
            true => places.extend(place.read_dir().unwrap().map(|entry| entry.unwrap().path())),
            false => files += 1,
        }
    }
    assert!(files >= 2, "{files}");
    for (service_name, address) in [("shop", stdout(&made)), ("blog", stdout(&of_tor))] {
        let read = root(dir, &["keys", "address", service_name]);
        assert_eq!(stdout(&read), address, "{}", stderr(&read));
    }
    assert_eq!(check(dir, &[]).status.code(), Some(0));
    let another = root(dir, &["keys", "generate", "shop"]);
    assert_eq!(another.status.code(), Some(77));
    assert!(stderr(&another).contains("has a key already"), "{}", stderr(&another));
    // The daemon would leave files of root's there.
    let refused = root(dir, &["check"]);
    assert_eq!(refused.status.code(), Some(77));
    assert!(stderr(&refused).contains("sudo -u '#65532'"), "{}", stderr(&refused));
}

#[test]
fn root_follows_no_link_that_the_services_user_made() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    directory(&dir.join("roots"), 0, 0, 0o755);
    directory(&dir.join("volume/state"), SERVICE, SERVICE, 0o700);
    set(&dir.join("volume"), SERVICE, SERVICE, 0o700);
    symlink(dir.join("roots"), dir.join("volume/state/keystore")).unwrap();
    configure(dir, "", "");
    let refused = root(dir, &["keys", "generate", "shop"]);
    assert_eq!(refused.status.code(), Some(77), "{}", stderr(&refused));
    assert!(fs::read_dir(dir.join("roots")).unwrap().next().is_none());
}

/// A directory of the service's, in which that user has put a link in the place of
/// another one.
fn exchanged(dir: &Path) -> PathBuf {
    directory(&dir.join("roots"), 0, 0, 0o755);
    directory(&dir.join("volume"), SERVICE, SERVICE, 0o755);
    symlink(dir.join("roots"), dir.join("volume/files")).unwrap();
    dir.join("volume/files")
}

#[test]
fn certificates_and_clients_that_root_makes_go_where_no_link_of_the_service_leads() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    let files = exchanged(dir);
    let restricted = format!(
        "[onion_services.shop.restricted_discovery]\nenabled = true\nkey_dirs = [{{ path = {files:?} }}]"
    );
    configure(dir, &restricted, "");
    let made = root(dir, &["keys", "generate", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let files = files.to_str().unwrap();
    for arguments in [
        &["certificate", "self-signed", "shop", "--out", files][..],
        &[
            "certificate",
            "request",
            "shop",
            "--nonce",
            "3Jq1mV0xTqk=",
            "--out",
            &format!("{files}/csr"),
        ],
        &["clients", "add", "shop", "alice", "--out", "alice.auth_private"],
    ] {
        let refused = root(dir, arguments);
        assert_eq!(refused.status.code(), Some(77), "{arguments:?}: {}", stderr(&refused));
    }
    fs::write(dir.join("roots/bob.auth"), "x").unwrap();
    let refused = root(dir, &["clients", "remove", "shop", "bob"]);
    assert_ne!(refused.status.code(), Some(0), "{}", stderr(&refused));
    assert_eq!(fs::read_dir(dir.join("roots")).unwrap().count(), 1);
    assert!(!dir.join("alice.auth_private").exists());
    // In a directory of its own they are the service's.
    directory(&dir.join("volume/own"), SERVICE, SERVICE, 0o700);
    let own = dir.join("volume/own");
    let made = root(dir, &["certificate", "self-signed", "shop", "--out", own.to_str().unwrap()]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert_eq!(own.join("shop.key").metadata().unwrap().uid(), SERVICE);
    // Where only root can change anything, too.
    directory(&dir.join("tls"), 0, 0, 0o755);
    let made = root(dir, &["certificate", "self-signed", "shop", "--out", "tls"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    assert_eq!(dir.join("tls/shop.key").metadata().unwrap().uid(), SERVICE);
}

#[test]
fn root_finds_a_state_directory_that_the_file_names_relative_to_itself() {
    if !is_root() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    directory(&dir.join("state"), SERVICE, SERVICE, 0o700);
    let text = "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n\
                [storage]\nstate_dir = \"state\"\ncache_dir = \"cache\"\n";
    fs::write(dir.join("arti.toml"), text).unwrap();
    let made = root(dir, &["keys", "generate", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    // From elsewhere it is the same one.
    let file = dir.join("arti.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbraid"));
    command.args(["keys", "address", "shop", "-c"]).arg(file).current_dir("/").env_clear();
    let address = command.env("HOME", "/nonexistent").output().unwrap();
    assert_eq!(stdout(&address), stdout(&made), "{}", stderr(&address));
}
