//! What a newcomer meets before anything is set up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::{GOOD, onionbraid, stderr, stdout, unprivileged, write};

#[test]
fn a_service_of_no_file_is_not_looked_for_in_the_built_in_configuration() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["keys", "import", "shop", "key"][..],
        &["keys", "generate", "shop"],
        &["keys", "address", "shop"],
        &["backend-config", "shop"],
    ] {
        let output = onionbraid(dir.path(), arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("no configuration file was read"), "{said}");
        assert!(said.contains("[onion_services.\"shop\"]") && said.contains("-c FILE"), "{said}");
        assert!(!said.contains("welcome"), "{said}");
    }
}

#[test]
fn without_a_daemon_the_commands_that_ask_it_say_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "arti.toml", GOOD);
    for command in ["status", "healthcheck"] {
        let output = onionbraid(dir.path(), &[command, "-c", "arti.toml"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(69), "{said}");
        assert!(said.contains("no daemon is running"), "{said}");
        assert!(said.contains("`onionbraid run`") && said.contains("systemctl start"), "{said}");
        assert!(!said.contains("os error"), "{said}");
    }
}

#[test]
fn the_environment_names_the_files_where_the_command_line_does_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "one.toml", GOOD);
    write(dir.path(), "two.toml", "[logging]\nformat = \"json\"\n");
    write(dir.path(), "other.toml", &GOOD.replace("shop", "other"));
    let show = |variable: &str, arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .args(["config", "show"])
            .args(arguments)
            .env_clear()
            .env("HOME", dir.path())
            .env("ONIONBRAID_CONFIG", variable)
            .current_dir(dir.path())
            .output()
            .unwrap()
    };
    let both = stdout(&show("one.toml:two.toml", &[]));
    assert!(both.contains("[onion_services.shop]") && both.contains("format = \"json\""), "{both}");
    let given = stdout(&show("one.toml", &["-c", "other.toml"]));
    assert!(given.contains("[onion_services.other]") && !given.contains("shop"), "{given}");
    let missing = show("none.toml", &[]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(stderr(&missing).contains("there is no such file"), "{}", stderr(&missing));
}

#[test]
fn a_socket_is_relative_to_the_file_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    let text = "[onion_services.shop]\nproxy_ports = [[80, [\"http+unix:run/a\", \
                \"http+unix:../b\"]], [22, \"unix:/run/c\"]]\n";
    write(dir.path(), "etc/arti.toml", text);
    let shown = stdout(&onionbraid(dir.path(), &["config", "show", "-c", "etc/arti.toml"]));
    let base = dir.path().join("etc");
    for path in [base.join("run/a"), base.join("../b"), "/run/c".into()] {
        assert!(shown.contains(&format!("unix:{}\"", path.display())), "{shown}");
    }
    // What the system does not take is found, wherever the file lies.
    let long =
        format!("[onion_services.shop]\nproxy_ports = [[80, \"unix:{}\"]]\n", "x".repeat(100));
    write(dir.path(), "etc/arti.toml", &long);
    let refused = onionbraid(dir.path(), &["check", "-c", "etc/arti.toml"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(stderr(&refused).contains("at most 107 bytes"), "{}", stderr(&refused));
}

#[test]
fn a_probe_that_is_only_switched_on_asks_the_first_port() {
    let dir = tempfile::tempdir().unwrap();
    for (ports, port) in [("[[80, \"127.0.0.1:1\"]]", 80), ("[[8080, \"127.0.0.1:1\"]]", 8080)] {
        let text = format!("[onion_services.shop]\nproxy_ports = {ports}\nprobe = true\n");
        write(dir.path(), "arti.toml", &text);
        let shown = stdout(&onionbraid(dir.path(), &["config", "show", "-c", "arti.toml"]));
        assert!(shown.contains(&format!("probe]\nport = {port}\n")), "{shown}");
    }
    let text = "[onion_services.shop]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\nprobe = false\n";
    write(dir.path(), "arti.toml", text);
    let shown = stdout(&onionbraid(dir.path(), &["config", "show", "-c", "arti.toml"]));
    assert!(!shown.contains("probe"), "{shown}");
}

#[test]
fn keys_of_other_programs_are_named_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let made = onionbraid(dir.path(), &["keys", "generate", "--out", "tor"]);
    // What ADD_ONION takes: the file of C tor without its header.
    let base64 = Command::new("sh")
        .args(["-c", "tail -c 64 tor/hs_ed25519_secret_key | base64 -w 0"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let base64 = stdout(&base64);
    write(dir.path(), "base64", &base64);
    write(dir.path(), "add_onion", &format!("ED25519-V3:{base64}\n"));
    for file in ["./base64", "./add_onion"] {
        let refused = onionbraid(dir.path(), &["keys", "address", file]);
        assert_eq!(refused.status.code(), Some(77));
        let said = stderr(&refused);
        assert!(said.contains("ADD_ONION"), "{said}");
        // The words are a recipe that works.
        let (_, recipe) = said.split_once("write `").unwrap();
        let (recipe, _) = recipe.split_once('`').unwrap();
        let followed = Command::new("bash")
            .args(["-c", &format!("umask 077; printf %s '{base64}' | {recipe}")])
            .current_dir(dir.path())
            .status();
        assert!(followed.unwrap().success());
        let address = onionbraid(dir.path(), &["keys", "address", "./hs_ed25519_secret_key"]);
        assert_eq!(stdout(&address), stdout(&made), "{}", stderr(&address));
        assert!(!said.contains(&base64), "the key itself is not shown");
    }
}

#[test]
fn an_import_of_what_the_system_does_not_let_be_read_says_so_with_77() {
    let dir = tempfile::tempdir().unwrap();
    let files = [("onionbalance", "config.yaml"), ("torrc", "torrc"), ("onionspray", "site.conf")];
    for (_, file) in files {
        write(dir.path(), file, "");
        fs::set_permissions(dir.path().join(file), fs::Permissions::from_mode(0o000)).unwrap();
    }
    unprivileged::give(dir.path());
    for (system, file) in files {
        let mut command = unprivileged::command(env!("CARGO_BIN_EXE_onionbraid"));
        let output =
            command.args(["import", system, file]).current_dir(dir.path()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(77), "{said}");
        assert!(said.contains("the system does not let this user read it"), "{said}");
        assert_eq!(said.matches(file).count(), 1, "{said}");
    }
}
