//! Which code and which words has a file that cannot be read or written?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use super::unprivileged::{command, give};
use super::{GOOD, onionbraid, stderr, write};

/// Runs the program as a user without privileges.
fn unprivileged(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = command(env!("CARGO_BIN_EXE_onionbraid"));
    command.args(arguments).env_clear().env("HOME", dir).current_dir(dir);
    command.env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1").output().unwrap()
}

#[test]
fn what_the_system_denies_ends_with_77_whatever_is_written_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    write(path, "arti.toml", GOOD);
    write(path, "torrc", "HiddenServiceDir shop\nHiddenServicePort 80 127.0.0.1:80\n");
    write(path, "including", "%include secret\n");
    write(path, "secret", "");
    for name in ["locked", "config.yaml"] {
        fs::create_dir(path.join(name)).unwrap();
    }
    give(path);
    let made = unprivileged(path, &["keys", "generate", "shop", "-c", "arti.toml"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let made = unprivileged(path, &["keys", "generate", "--out", "shop"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    for (name, mode) in [("locked", 0o500), ("secret", 0)] {
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for arguments in [
        &["keys", "generate", "--out", "locked/new"][..],
        &["keys", "export", "shop", "--out", "locked/new", "-c", "arti.toml"],
        &[
            "keys",
            "export-periods",
            "shop",
            "--count",
            "1",
            "--out",
            "locked/new",
            "-c",
            "arti.toml",
        ],
        &["backend-config", "shop", "--out", "locked/new", "-c", "arti.toml"],
        &["certificate", "self-signed", "shop", "--out", "locked", "-c", "arti.toml"],
        &["kubernetes", "shop", "--to", "http://web:80", "--out", "locked/new"],
        &["import", "torrc", "torrc", "--out", "locked/new"],
        &["import", "torrc", "torrc", "--copy-keys", "locked/new"],
        &["import", "torrc", "secret"],
        &["import", "torrc", "including"],
        &["import", "onionbalance", "secret"],
        &["import", "onionspray", "secret"],
        &["generate", "man", "--out", "locked"],
    ] {
        let denied = unprivileged(path, arguments);
        let said = stderr(&denied);
        assert_eq!(denied.status.code(), Some(77), "{arguments:?}: {said}");
        assert!(!said.contains(".onionbraid-"), "{arguments:?}: {said}");
    }
    assert_eq!(fs::read_dir(path.join("locked")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_and_a_missing_directory_are_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    write(path, "arti.toml", GOOD);
    write(path, "passphrase", "only a test");
    let made = onionbraid(path, &["keys", "generate", "shop", "-c", "arti.toml"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let backup = |out: &str, full: bool| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onionbraid"));
        command.args(["backup", out, "--passphrase-file", "passphrase", "-c", "arti.toml"]);
        command.env_clear().env("HOME", path).env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1");
        if full {
            command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
        }
        command.current_dir(path).output().unwrap()
    };
    let full = backup("-", true);
    assert_eq!(full.status.code(), Some(1), "{}", stderr(&full));
    let said = stderr(&full);
    let said = said.lines().last().unwrap();
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!said.contains("Os {") && !said.contains("Error("), "{said}");
    let missing = backup("nodir/y.age", false);
    assert_eq!(missing.status.code(), Some(1));
    let said = stderr(&missing);
    let said = said.lines().last().unwrap();
    assert!(said.contains("nodir/y.age cannot be written: No such file"), "{said}");
    assert!(!said.contains(".onionbraid-"), "{said}");
}

#[test]
fn configuration_files_are_ordinary_and_of_limited_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let made = std::process::Command::new("mkfifo").arg(path.join("pipe")).status().unwrap();
    assert!(made.success());
    let long = fs::File::create(path.join("long.toml")).unwrap();
    long.set_len(5 * 1024 * 1024).unwrap();
    for (file, right) in
        [("/dev/zero", "no ordinary file"), ("pipe", "no ordinary file"), ("long.toml", "4 MiB")]
    {
        let refused = onionbraid(path, &["check", "-c", file]);
        assert_eq!(refused.status.code(), Some(78), "{file}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(right), "{file}: {}", stderr(&refused));
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onionbraid"));
    command.arg("check").env_clear().env("HOME", path).env("ONIONBRAID_CONFIG", "/x:y.toml");
    let refused = command.current_dir(path).output().unwrap();
    assert!(stderr(&refused).contains("ONIONBRAID_CONFIG names it"), "{}", stderr(&refused));
}

#[test]
fn one_port_is_not_given_to_the_admin_endpoint_and_to_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    for (admin, listen) in [
        ("127.0.0.1:9035", "\"127.0.0.1:9035\""),
        ("127.0.0.1:9035", "9035"),
        ("127.0.0.1:9035", "\"0.0.0.0:9035\""),
        ("127.0.0.1:9035", "\"[::]:9035\""),
        ("127.0.0.1:1", "[\"0.0.0.0:9035\", \"127.0.0.1:9035\"]"),
    ] {
        let more =
            format!("[admin]\nlisten = \"{admin}\"\n[metrics]\nprometheus.listen = {listen}\n");
        write(dir.path(), "arti.toml", &format!("{GOOD}{more}"));
        let checked = onionbraid(dir.path(), &["check", "-c", "arti.toml"]);
        assert_eq!(checked.status.code(), Some(78), "{listen}: {}", stderr(&checked));
        assert!(stderr(&checked).contains("give another port"), "{}", stderr(&checked));
    }
}

#[test]
fn what_is_missing_or_wrong_is_told_with_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let closed = "[onion_services.shop.restricted_discovery]\nenabled = true\nkey_dirs = ";
    let text =
        GOOD.replace("name = \"berlin\"", "name = \"berlin\"\nclient_key = \"no.auth_private\"");
    write(path, "arti.toml", &format!("{text}{closed}[{{ path = \"clients\" }}]\n"));
    write(path, "text.toml", &format!("{GOOD}{closed}[\"clients\"]\n"));
    write(path, "cut.age", "age-encryption.org/v1\n-> scry");
    let made = onionbraid(path, &["keys", "generate", "shop", "-c", "arti.toml"]);
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let period = ["keys", "export-periods", "shop", "--count", "1", "--out", "p"];
    for (arguments, right) in [
        (&["check", "-c", "arti.toml"][..], "`onionbraid backend-config SERVICE --backend NAME`"),
        (&["check", "-c", "text.toml"], "this must be a table: { path = \"clients\" }"),
        (&[&period[..], &["--from", "1900-01-01"]].concat(), "after 1970"),
        (&["restore", "cut.age", "--list"], "cut off at its beginning"),
        (&["kubernetes", "shop", "--to", "file:/nix", "--out", "k1"], "add a volume for /nix"),
        (&["kubernetes", "shop", "--to", "unix:rel", "--out", "k2"], "with a path from /"),
    ] {
        let output = onionbraid(path, arguments);
        assert!(stderr(&output).contains(right), "{arguments:?}: {}", stderr(&output));
    }
    // The directory for the first client is made.
    let added = onionbraid(path, &["clients", "add", "shop", "alice", "-c", "arti.toml"]);
    assert_eq!(added.status.code(), Some(0), "{}", stderr(&added));
    let mode = path.join("clients").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn files_of_kubernetes_are_replaced_and_no_link_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let make = || {
        onionbraid(path, &["kubernetes", "shop", "--to", "http://web:80", "--out", "k", "--force"])
    };
    assert_eq!(make().status.code(), Some(0));
    write(path, "victim", "theirs");
    fs::remove_file(path.join("k/kustomization.yaml")).unwrap();
    std::os::unix::fs::symlink(path.join("victim"), path.join("k/kustomization.yaml")).unwrap();
    assert_eq!(make().status.code(), Some(0));
    assert_eq!(fs::read_to_string(path.join("victim")).unwrap(), "theirs");
    assert!(path.join("k/kustomization.yaml").symlink_metadata().unwrap().is_file());
}
