//! `onionbraid clients`, and services that are for their clients alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use onionbraid_balancer::onion::{ClientKey, OnionAddress};

use super::{onionbraid, stderr, stdout, write};

const ONE: &str = "descriptor:x25519:N2NU7BSRL6YODZCYPN4CREB54TYLKGIE2KYOQWLFYC23ZJVCE5DQ";

/// A service with a key, whose clients lie in `clients`.
fn restricted(more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[onion_services.shop]\nproxy_ports = [[80, \"http://127.0.0.1:8080\"]]\n{more}\n\
         [onion_services.shop.restricted_discovery]\nenabled = true\n\
         key_dirs = [{{ path = 'clients' }}]\n[storage]\nstate_dir = \"state\"\n"
    );
    write(dir.path(), "arti.toml", &text);
    std::fs::create_dir(dir.path().join("clients")).unwrap();
    let made = onionbraid(dir.path(), &["keys", "generate", "shop", "-c", "arti.toml"]);
    assert!(made.status.success(), "{}", stderr(&made));
    dir
}

fn clients(dir: &Path, arguments: &[&str]) -> Output {
    onionbraid(dir, &[&["clients"], arguments, &["-c", "arti.toml"]].concat())
}

fn check(dir: &Path) -> Output {
    onionbraid(dir, &["check", "-c", "arti.toml"])
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_client_gets_a_private_file_of_c_tors_form_and_the_service_the_public_half() {
    let dir = restricted("");
    let dir = dir.path();
    let none = check(dir);
    // The daemon runs with this, too, and publishes nothing.
    assert_eq!(none.status.code(), Some(0), "{}", stderr(&none));
    let said = stdout(&none);
    assert!(said.contains("NOT PUBLISHED: `onionbraid clients add shop NAME`"), "{said}");

    let added = clients(dir, &["add", "shop", "alice"]);
    assert!(added.status.success(), "{}", stderr(&added));
    let public: ClientKey = stdout(&added).trim().parse().unwrap();
    let file = dir.join("clients/alice.auth");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{public}\n"));
    let private = dir.join("alice.auth_private");
    assert_eq!([mode(&file), mode(&private)], [0o600; 2]);
    let text = std::fs::read_to_string(&private).unwrap();
    let parts: Vec<_> = text.trim_end().split(':').collect();
    let address = onionbraid(dir, &["keys", "address", "shop", "-c", "arti.toml"]);
    assert_eq!(format!("{}.onion\n", parts[0]), stdout(&address));
    assert_eq!((parts[1], parts[2], parts[3].len()), ("descriptor", "x25519", 52));
    assert!(!stderr(&added).contains(parts[3]), "the private key is printed");

    // Neither file is ever overwritten, whichever is there.
    let before = std::fs::read(&private).unwrap();
    assert_eq!(clients(dir, &["add", "shop", "alice"]).status.code(), Some(1));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(clients(dir, &["add", "shop", "alice"]).status.code(), Some(1));
    assert!(!file.exists());
    assert_eq!(std::fs::read(&private).unwrap(), before);

    let bob = clients(dir, &["add", "shop", "bob", "--key", ONE]);
    assert_eq!(stdout(&bob), format!("{ONE}\n"));
    assert!(!dir.join("bob.auth_private").exists());
    let good = check(dir);
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(stdout(&good).contains("1 client may find it"), "{}", stdout(&good));

    let listed = stdout(&clients(dir, &["list", "shop"]));
    assert!(listed.starts_with("bob") && listed.contains(ONE), "{listed}");
    assert!(clients(dir, &["remove", "shop", "bob"]).status.success());
    assert_eq!(clients(dir, &["remove", "shop", "bob"]).status.code(), Some(2));
    assert!(stderr(&clients(dir, &["list", "shop"])).contains("not published"));
}

#[test]
fn names_that_are_paths_and_keys_that_are_none_are_refused() {
    let dir = restricted("");
    for name in ["../alice", "a/b", ".hidden", "-x", "", "a\nb", &"x".repeat(65)] {
        let refused = clients(dir.path(), &["add", "shop", "--key", ONE, "--", name]);
        // What comes after `--` is no option: the file is not named there.
        assert!(!refused.status.success(), "{name:?}");
    }
    let weak = format!("descriptor:x25519:{}", "A".repeat(52));
    for key in ["", "N2NU7", &ONE[..60], &weak] {
        let refused = clients(dir.path(), &["add", "shop", "alice", "--key", key]);
        assert_eq!(refused.status.code(), Some(2), "{key:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("clients")).unwrap().count(), 0);
}

#[test]
fn a_service_that_is_open_and_a_client_in_the_file_are_left_to_the_operator() {
    let dir = restricted("");
    let text = std::fs::read_to_string(dir.path().join("arti.toml")).unwrap();
    let fixed = text.replace("key_dirs", &format!("static_keys.carol = '{ONE}'\nkey_dirs"));
    write(dir.path(), "arti.toml", &fixed);
    let refused = clients(dir.path(), &["remove", "shop", "carol"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(stderr(&refused).contains("static_keys"), "{}", stderr(&refused));
    assert_eq!(clients(dir.path(), &["add", "shop", "carol"]).status.code(), Some(1));

    write(dir.path(), "arti.toml", &text.replace("enabled = true", "enabled = false"));
    let refused = clients(dir.path(), &["add", "shop", "carol"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(stderr(&refused).contains("enabled = true"), "{}", stderr(&refused));
}

#[test]
fn open_backends_of_a_closed_service_are_warned_of_until_they_have_a_key() {
    let backend = OnionAddress::from_public_key([9; 32]);
    let entry =
        |more: &str| format!("backends = [{{ address = '{backend}', name = 'berlin'{more} }}]");
    let dir = restricted(&entry(""));
    let dir = dir.path();
    assert!(clients(dir, &["add", "shop", "bob", "--key", ONE]).status.success());
    let said = stdout(&check(dir));
    assert!(said.contains("no `client_key` says that the same is true of berlin"), "{said}");
    let config =
        |name| onionbraid(dir, &["backend-config", "shop", "--backend", name, "-c", "arti.toml"]);
    assert_eq!(config("berlin").status.code(), Some(78));
    assert_eq!(config("oslo").status.code(), Some(2));

    let text = std::fs::read_to_string(dir.join("arti.toml")).unwrap();
    let key = entry(", client_key = 'berlin.auth_private'");
    write(dir, "arti.toml", &text.replace(&entry(""), &key));
    let missing = check(dir);
    assert_eq!(missing.status.code(), Some(77), "{}", stderr(&missing));
    let printed = config("berlin");
    assert!(printed.status.success(), "{}", stderr(&printed));
    let line = stdout(&printed).lines().last().unwrap().to_owned();
    let public: ClientKey = line.parse().unwrap();
    assert_eq!(mode(&dir.join("berlin.auth_private")), 0o600);
    // The same key again, not another one.
    assert!(stdout(&config("berlin")).contains(&public.to_string()));
    let whole = onionbraid(
        dir,
        &[
            "backend-config",
            "shop",
            "--backend",
            "berlin",
            "--for",
            "onionbraid",
            "-c",
            "arti.toml",
        ],
    );
    assert!(stdout(&whole).contains(&format!("static_keys.publisher = \"{public}\"")));
    let said = check(dir);
    assert!(said.status.success(), "{}", stderr(&said));
    assert!(!stdout(&said).contains("no `client_key`"), "{}", stdout(&said));
    // Another backend's key.
    let other = OnionAddress::from_public_key([10; 32]).to_string();
    let own = std::fs::read_to_string(dir.join("berlin.auth_private")).unwrap();
    let of_other = own.replace(own.split(':').next().unwrap(), &other[..56]);
    write(dir, "berlin.auth_private", &of_other);
    let wrong = check(dir);
    assert_eq!(wrong.status.code(), Some(77));
    assert!(stderr(&wrong).contains("it is for another address"), "{}", stderr(&wrong));
    assert!(!stderr(&wrong).contains(own.trim_end().rsplit(':').next().unwrap()));
}
