//! What `onionbraid kubernetes` writes: the example in `packaging/kubernetes`, valid
//! for a cluster and in itself, and never a key over another.
//!
//! With `UPDATE_EXPECTED=1` in the environment the example is written anew; read the
//! difference before committing it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use onionbraid::config::{Config, Environment};
use serde_json::Value;
use sha2::{Digest as _, Sha512};

fn kubernetes(out: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(["kubernetes", "shop", "--to", "http://shop:8080", "--out"])
        .arg(out)
        .args(more)
        .env_clear()
        .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
        .output()
        .unwrap()
}

/// Puts a key there whose seed is known, as C tor would have it.
fn put_key(directory: &Path, seed: u8) {
    let mut secret = Sha512::digest([seed; 32]);
    secret[0] &= 248;
    secret[31] = (secret[31] & 63) | 64;
    let file = [b"== ed25519v1-secret: type0 ==\0\0\0".as_slice(), &secret].concat();
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("hs_ed25519_secret_key"), file).unwrap();
}

/// The files of a directory, without the keys.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap());
    let entries = entries.filter(|entry| entry.path().is_file());
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    entries.map(|e| (e.file_name().into_string().unwrap(), read(&e.path()))).collect()
}

/// The example, made of keys that everybody may know.
fn example() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (seed, name) in (1..).zip(["shop", "shop-backend-0", "shop-backend-1", "shop-backend-2"]) {
        put_key(&directory.path().join("keys").join(name), seed);
    }
    let made =
        kubernetes(directory.path(), &["--service-monitor", "--image", "onionbraid:example"]);
    assert!(made.status.success(), "{made:?}");
    directory
}

/// Every object of some manifests.
fn objects(files: &BTreeMap<String, String>) -> Vec<Value> {
    let manifests = files.iter().filter(|(name, _)| name.ends_with(".yaml"));
    let texts = manifests.flat_map(|(_, text)| text.split("\n---\n"));
    texts.map(|text| serde_saphyr::from_str(text).unwrap()).collect()
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let found: Vec<_> = all.iter().filter(|object| object["kind"] == *kind).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn names<'a>(list: &'a Value, key: &str) -> BTreeSet<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[test]
fn the_example_is_what_the_command_writes() {
    let example = example();
    let made = files(example.path());
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/kubernetes");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::create_dir_all(&kept).unwrap();
        for (name, text) in &made {
            std::fs::write(kept.join(name), text).unwrap();
        }
    }
    let mut kept = files(&kept);
    assert!(kept.remove("README.md").is_some());
    assert_eq!(made.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>());
    for (name, text) in &made {
        assert!(
            *text == kept[name],
            "packaging/kubernetes/{name}: UPDATE_EXPECTED=1 writes it anew"
        );
        assert!(!text.contains('@'), "{name}: {text}");
    }
}

#[test]
fn a_cluster_would_take_every_manifest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let validate = |file: &Path| {
        Command::new("python3")
            .args(["-m", "kubernetes_validate", "--strict", "--quiet"])
            .arg(file)
            .env("PYTHONPATH", root.join("target/tools/validators"))
            .output()
            .unwrap()
    };
    let example = example();
    for name in ["publishers.yaml", "backends.yaml", "network-policy.yaml"] {
        let output = validate(&example.path().join(name));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} (kubernetes-validate: `make deps`): {text}");
    }
    let wrong = example.path().join("wrong.yaml");
    let text = std::fs::read_to_string(example.path().join("publishers.yaml")).unwrap();
    std::fs::write(&wrong, text.replace("runAsNonRoot: true", "runAsNobody: true")).unwrap();
    assert!(!validate(&wrong).status.success(), "it takes anything");
}

#[test]
fn what_objects_say_of_each_other_holds() {
    let example = example();
    let files = files(example.path());
    let all = objects(&files);
    let kustomization = of_kind(&all, "Kustomization")[0];
    let resources: BTreeSet<_> = kustomization["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    let manifests = files.keys().map(String::as_str).filter(|name| name.ends_with(".yaml"));
    assert_eq!(resources, manifests.filter(|name| *name != "kustomization.yaml").collect());

    let configurations = names(&kustomization["configMapGenerator"], "name");
    let secrets = names(&kustomization["secretGenerator"], "name");
    for set in of_kind(&all, "StatefulSet") {
        let spec = &set["spec"];
        let labels = &spec["template"]["metadata"]["labels"];
        assert_eq!(spec["selector"]["matchLabels"], *labels);
        let pod = &spec["template"]["spec"];
        let container = &pod["containers"][0];
        let mounted = names(&container["volumeMounts"], "name");
        let mut volumes = names(&pod["volumes"], "name");
        volumes.insert(spec["volumeClaimTemplates"][0]["metadata"]["name"].as_str().unwrap());
        assert_eq!(mounted, volumes);
        for volume in pod["volumes"].as_array().unwrap() {
            if let Some(name) = volume["configMap"]["name"].as_str() {
                assert!(configurations.contains(name), "{name}");
            } else {
                let secret = &volume["secret"];
                assert!(secrets.contains(secret["secretName"].as_str().unwrap()), "{volume}");
                // 0440: for the group of the volume alone.
                assert_eq!(secret["defaultMode"], 0o440);
            }
        }
        let user = &pod["securityContext"];
        assert_eq!(
            (&user["runAsNonRoot"], &user["runAsUser"], &user["fsGroup"]),
            (&true.into(), &65532.into(), &65532.into())
        );
        let security = &container["securityContext"];
        assert_eq!(
            (&security["readOnlyRootFilesystem"], &security["capabilities"]["drop"][0]),
            (&true.into(), &"ALL".into())
        );
        assert_eq!(container["readinessProbe"]["exec"]["command"][1], "healthcheck");

        let component = &labels["app.kubernetes.io/component"];
        let selects = |selector: &Value| selector == labels;
        let named = |kind: &str| {
            let mut of = of_kind(&all, kind);
            of.retain(|it| it["metadata"]["name"] == set["metadata"]["name"]);
            of.pop().unwrap_or_else(|| panic!("no {kind} of {component}"))
        };
        assert!(selects(&named("Service")["spec"]["selector"]));
        assert!(selects(&named("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]));
        assert!(selects(&named("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]));
        assert_eq!(spec["serviceName"], named("Service")["metadata"]["name"]);
    }
    let scaler = &of_kind(&all, "HorizontalPodAutoscaler")[0]["spec"];
    assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&1.into(), &3.into()));
    assert_eq!(scaler["scaleTargetRef"]["name"], "shop-backend");
    let publisher = of_kind(&all, "StatefulSet")[1];
    assert_eq!(publisher["spec"]["replicas"], 2);
    let affinity = &publisher["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
    assert!(affinity["requiredDuringSchedulingIgnoredDuringExecution"].is_array());
}

#[test]
fn every_configuration_is_good_and_all_slots_are_listed_and_have_a_key() {
    let example = example();
    let files = files(example.path());
    let environment = Environment::new([("HOME", "/home/user")]);
    let config = |name: &str| Config::from_text(&files[name], &environment).unwrap();
    let publisher = config("publisher.toml").services.pop().unwrap();
    let publisher = publisher.with_backends_file(&files["slots.toml"]).unwrap();
    let slots: Vec<_> = publisher.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(slots, ["slot-0", "slot-1", "slot-2"]);
    assert_eq!(publisher.publishers, onionbraid_balancer::Publishers::Several);
    let backend = config("backend.toml").services.pop().unwrap();
    for (slot, listed) in publisher.backends.iter().enumerate() {
        let key = example.path().join(format!("keys/shop-backend-{slot}"));
        let address = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .args(["keys", "address"])
            .arg(key)
            .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(address.stdout).unwrap().trim(), listed.address.to_string());
        let line = format!("shop-backend-{slot}=keys/shop-backend-{slot}/hs_ed25519_secret_key");
        assert!(files["kustomization.yaml"].contains(&line));
    }
    assert!(files["publisher.toml"].contains(&backend.frontends[0].to_string()));
}

#[test]
fn made_anew_it_keeps_keys_and_has_more_slots_and_what_was_changed_stays_unless_forced() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("new/shop");
    let made = kubernetes(&out, &["--slots", "2"]);
    assert!(made.status.success(), "{made:?}");
    let mode = |path: &str| out.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("keys"), 0o700);
    assert_eq!(mode("keys/shop/hs_ed25519_secret_key"), 0o600);
    let before = files(&out);
    assert!(!before.contains_key("service-monitor.yaml"));
    assert!(before["network-policy.yaml"].contains("ingress: []"));
    let again = kubernetes(&out, &["--slots", "2"]);
    assert_eq!((again.status.code(), &again.stdout), (Some(0), &made.stdout));
    assert_eq!(files(&out), before);

    let more = kubernetes(&out, &["--slots", "4"]);
    assert_eq!(more.status.code(), Some(1));
    let said = String::from_utf8(more.stderr).unwrap();
    assert!(said.contains("backends.yaml, ") || said.contains("slots.toml"), "{said}");
    assert_eq!(files(&out), before);
    assert!(!out.join("keys/shop-backend-2").exists());

    let forced = kubernetes(&out, &["--slots", "4", "--force"]);
    assert_eq!((forced.status.code(), &forced.stdout), (Some(0), &made.stdout));
    let slots = |files: &BTreeMap<String, String>| {
        let lines = files["slots.toml"].lines().filter(|line| line.contains(".onion"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let after = files(&out);
    assert_eq!((slots(&after).len(), &slots(&after)[..2]), (4, &slots(&before)[..]));

    // Another key for the address.
    put_key(&directory.path().join("other"), 9);
    let other = directory.path().join("other");
    let refused = kubernetes(&out, &["--slots", "4", "--key", other.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(77), "{refused:?}");
    let brought = directory.path().join("brought");
    let taken = kubernetes(&brought, &["--key", other.to_str().unwrap()]);
    assert!(taken.status.success());
    let [mine, theirs] = [&other, &brought.join("keys/shop")]
        .map(|it| std::fs::read(it.join("hs_ed25519_secret_key")).unwrap());
    assert!(mine == theirs);
}

#[test]
fn what_no_cluster_could_take_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
            .arg("kubernetes")
            .args(arguments)
            .arg("--out")
            .arg(&out)
            .env_clear()
            .output()
            .unwrap();
        assert!(!out.exists(), "{arguments:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for name in ["Shop", "my_shop", "-shop", "shop-", "a.b", "shop\nkind: Secret", &"a".repeat(41)]
    {
        let (code, said) = run(&["--to", "http://shop:80", "--", name]);
        assert_eq!(code, Some(2), "{name}: {said}");
    }
    for image in ["", "a b", "a\"b", "image:", "$(x)", "a\nb", "a@TARGET@", "a@sha256:x"] {
        let (code, said) = run(&["shop", "--to", "http://shop:80", "--image", image]);
        assert_eq!(code, Some(2), "{image}: {said}");
    }
    let (code, said) = run(&["shop", "--to", "http://shop:80/path\"]]\n[x]"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("proxy_ports"), "{said}");
    assert_eq!(run(&["shop", "--to", "http://shop:80", "--slots", "0"]).0, Some(2));
    assert_eq!(run(&["shop", "--to", "http://shop:80", "--slots", "101"]).0, Some(2));
}

/// All that is in a directory, with its content.
fn tree(directory: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in directory.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => open.push(entry),
                false => drop(found.insert(entry.clone(), std::fs::read(entry).unwrap())),
            }
        }
    }
    found
}

#[test]
fn a_directory_that_comes_without_its_keys_gets_no_others() {
    let example = example();
    let out = example.path();
    let kept = tempfile::tempdir().unwrap();
    let kept = kept.path().join("keys");
    let address = String::from_utf8(kubernetes(out, &["--force"]).stdout).unwrap();
    let address = address.trim();
    std::fs::rename(out.join("keys"), &kept).unwrap();
    let refused = |more: &[&str]| {
        let before = tree(out);
        let output = kubernetes(out, more);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(77), "{more:?}: {said}");
        assert!(output.stdout.is_empty() && tree(out) == before, "{more:?}: {said}");
        said
    };
    let key = kept.join("shop");
    let key = key.to_str().unwrap();
    for more in [&["--force"][..], &[], &["--force", "--slots", "5"]] {
        let said = refused(more);
        for file in ["publisher.toml", "backend.toml"] {
            assert!(said.contains(&format!("{file} names {address}")), "{said}");
        }
        assert!(said.contains("keys/shop") && said.contains("--key FILE"), "{said}");
        assert!(said.contains("and 1 more"), "{said}");
    }
    // One file is enough, whichever it is, and the comment or the setting.
    for file in ["publisher.toml", "backend.toml"] {
        let text = std::fs::read_to_string(out.join(file)).unwrap();
        std::fs::remove_file(out.join(file)).unwrap();
        refused(&["--force"]);
        std::fs::write(out.join(file), text.split_once('\n').unwrap().1).unwrap();
        refused(&["--force"]);
        std::fs::write(out.join(file), text).unwrap();
    }
    // The key of the address alone: those of the slots are missing still.
    let said = refused(&["--force", "--key", key]);
    assert!(!said.contains("publisher.toml") && said.contains("for slot 2"), "{said}");
    let said = refused(&["--force", "--key", kept.join("shop-backend-0").to_str().unwrap()]);
    assert!(said.contains("but --key has the key of"), "{said}");
    // All but one, and another in its place.
    let copy = |name: &str| {
        std::fs::create_dir_all(out.join("keys").join(name)).unwrap();
        let file = format!("{name}/hs_ed25519_secret_key");
        std::fs::copy(kept.join(&file), out.join("keys").join(&file)).unwrap();
    };
    for name in ["shop", "shop-backend-0", "shop-backend-2"] {
        copy(name);
    }
    let said = refused(&["--force"]);
    assert!(said.contains("for slot 1") && !said.contains("slot 0"), "{said}");
    let slots = std::fs::read(out.join("slots.toml")).unwrap();
    std::fs::write(out.join("slots.toml"), "backends = [").unwrap();
    assert!(refused(&["--force"]).contains("does not tell"));
    std::fs::write(out.join("slots.toml"), slots).unwrap();
    copy("shop-backend-1");
    std::fs::remove_dir_all(out.join("keys/shop")).unwrap();
    put_key(&out.join("keys/shop"), 77);
    let said = refused(&["--force"]);
    assert!(said.contains("keys/shop has the key of"), "{said}");
    std::fs::remove_dir_all(out.join("keys/shop")).unwrap();

    // With all, by --key and by the directory, and new slots are new.
    let made = kubernetes(out, &["--force", "--slots", "5", "--key", key]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(String::from_utf8(made.stdout).unwrap().trim(), address);
    assert!(String::from_utf8(made.stderr).unwrap().contains("New keys: 3 of 6"));
    put_key(&out.join("keys/other"), 78);
    std::fs::remove_dir_all(out.join("keys/shop-backend-4")).unwrap();
    std::fs::rename(out.join("keys/other"), out.join("keys/shop-backend-4")).unwrap();
    assert!(refused(&["--force", "--slots", "5"]).contains("shop-backend-4 has the key of"));
    // Fewer slots need no more keys than they have; lost ones are given up by hand.
    assert!(kubernetes(out, &["--force", "--slots", "4"]).status.success());
    std::fs::remove_dir_all(out.join("keys/shop-backend-3")).unwrap();
    assert!(refused(&["--force", "--slots", "4"]).contains("slots.toml is moved away"));
    std::fs::remove_file(out.join("slots.toml")).unwrap();
    assert!(kubernetes(out, &["--force", "--slots", "4"]).status.success());
}

/// The egress rules of the backends for a web server, and what is said of it.
fn egress(to: &str) -> (Vec<Value>, String) {
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_onionbraid"))
        .args(["kubernetes", "shop", "--slots", "1", "--to", to, "--out"])
        .arg(directory.path().join("k"))
        .env_clear()
        .env("ARTI_FS_DISABLE_PERMISSION_CHECKS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(made.status.success(), "{to}: {said}");
    let policy = directory.path().join("k/network-policy.yaml");
    let validated = Command::new("python3")
        .args(["-m", "kubernetes_validate", "--strict", "--quiet"])
        .arg(policy)
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/validators"))
        .output()
        .unwrap();
    assert!(validated.status.success(), "{to}: {validated:?}");
    let all = objects(&files(&directory.path().join("k")));
    let mut policies = of_kind(&all, "NetworkPolicy");
    policies.retain(|policy| policy["metadata"]["name"] == "shop-backend");
    (policies[0]["spec"]["egress"].as_array().unwrap().clone(), said)
}

#[test]
fn the_policy_lets_backends_reach_their_web_server() {
    let (always, said) = egress("http://shop:8080");
    assert!(!said.contains("network policy"), "{said}");
    for open in ["http://127.0.0.1:80", "203.0.113.1:80", "https://[2001:db8::1]", "localhost:80"]
        .into_iter()
        .chain(["172.15.255.255:80", "172.32.0.1:80", "100.128.0.1:80", "unix:/run/x", "reject"])
    {
        assert_eq!(egress(open).0, always, "{open}");
    }
    for (to, cidr, port) in [
        ("http://10.1.2.3:8080", "10.1.2.3/32", 8080),
        ("100.64.0.1:81", "100.64.0.1/32", 81),
        ("169.254.1.1:81", "169.254.1.1/32", 81),
        ("https://172.31.255.255", "172.31.255.255/32", 443),
        ("192.168.0.1:81", "192.168.0.1/32", 81),
        ("http://[fd00::1]", "fd00::1/128", 80),
        ("[fe80::1]:81", "fe80::1/128", 81),
        ("[::ffff:10.0.0.1]:81", "10.0.0.1/32", 81),
    ] {
        let (rules, said) = egress(to);
        let rule = serde_json::json!({
            "to": [{ "ipBlock": { "cidr": cidr } }],
            "ports": [{ "protocol": "TCP", "port": port }],
        });
        assert_eq!(rules, [&always[..], &[rule]].concat(), "{to}");
        assert!(said.contains("NAME.NAMESPACE.svc"), "{said}");
    }
    for to in ["http://shop.web.svc", "shop.web.svc.cluster.local:80", "a.shop.web.svc.x.org:80"] {
        let (rules, said) = egress(to);
        let labels = serde_json::json!({ "kubernetes.io/metadata.name": "web" });
        let rule = serde_json::json!({
            "to": [{ "namespaceSelector": { "matchLabels": labels } }],
        });
        assert_eq!(rules, [&always[..], &[rule]].concat(), "{to}");
        assert!(said.contains("every pod of the namespace web"), "{said}");
    }
    for to in ["http://shop.web", "https://example.com", "a.b_c.svc:80", "db.internal.example:80"] {
        let (rules, said) = egress(to);
        assert_eq!(rules, always, "{to}");
        assert!(said.contains("Warning: the network policy"), "{said}");
    }
}
