//! Does `check --online` tell what is wrong with each backend?

use std::process::Output;
use std::time::Duration;

use super::frontend::{CALM, Frontend, Prepared};
use crate::network;
use crate::network::origin::Origin;

/// The lines of the answer that speak of one backend.
fn about(output: &Output, name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with(name));
    lines.map(str::to_owned).collect()
}

fn whole(output: &Output) -> String {
    let [out, error] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{}\n{out}\n{error}", output.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_broken_backend_gets_its_own_verdict() {
    let network = network::shared().await.unwrap();
    // `check` sees a new time period before the daemon does.
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let nobody = network.free_address().unwrap();
    let backend = async |name, origin| network.future_backend(name, origin).await.unwrap();
    let good = backend("good", origin.address).await;
    let strange = backend("strange", origin.address).await;
    let dead = backend("dead", origin.address).await;
    let hanging = backend("hanging", origin.address).await;
    let closed = backend("closed", nobody).await;
    let silent = backend("silent", origin.address).await;
    let all = [
        ("good", &good),
        ("strange", &strange),
        ("dead", &dead),
        ("hanging", &hanging),
        ("closed", &closed),
    ];
    let listed: String = all
        .iter()
        .map(|(name, it)| format!("{{ address = '{}', name = '{name}' }},", it.onion_address()))
        .collect();
    let prepared = Prepared::new(network, "checked").unwrap().on_a_socket();
    let frontend = prepared
        .start(&format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = [{listed}]",
            origin.address
        ))
        .unwrap();
    let onion = frontend.address().await.unwrap();
    for (name, backend) in all {
        let frontend = if name == "strange" { silent.onion_address() } else { &onion };
        backend.answer_for(frontend).await.unwrap();
    }
    frontend.ready().await.unwrap();
    dead.node.kill().unwrap();
    hanging.node.freeze().unwrap();

    let output = frontend.command(&["check", "--online"]).await.unwrap();
    let said = whole(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not everything answers"), "{said}");
    let one_line = |name: &str| match about(&output, name).as_slice() {
        // The table has a line for each point; the advice is the last.
        [.., advice] => advice.clone(),
        [] => panic!("nothing about {name}: {said}"),
    };
    assert_eq!(one_line("good"), "good answers", "{said}");
    assert!(one_line("strange").contains("its ob_config must contain"), "{said}");
    assert!(said.contains(&format!("MasterOnionAddress {onion}")), "{said}");
    assert!(one_line("dead").contains(" is dead: "), "{said}");
    assert!(one_line("hanging").contains("hanging is dead: nobody answers"), "{said}");
    let port = one_line("closed");
    assert!(port.contains("port 80 is closed: the server behind it does not answer"), "{said}");
    assert_eq!(one_line("(published)"), "(published) answers", "{said}");

    // The daemon has answered, with its own Tor client.
    assert!(said.contains("asked the running daemon"), "{said}");
    assert!(!frontend.home().exists());
    hanging.node.resume().unwrap();
}

/// Longer than a probe waits to be met, and much shorter than three do.
const SLOW: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_slow_for_a_while_is_not_called_dead() {
    let network = network::shared().await.unwrap();
    // `check` sees a new time period before the daemon does.
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let slow = network.future_backend("slow", origin.address).await.unwrap();
    let prepared = Prepared::new(network, "slow-for-a-while").unwrap().on_a_socket();
    let frontend = prepared
        .start(&format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\n\
             backends = [{{ address = '{}', name = 'slow' }}]",
            origin.address,
            slow.onion_address()
        ))
        .unwrap();
    slow.answer_for(&frontend.address().await.unwrap()).await.unwrap();
    frontend.ready().await.unwrap();

    slow.node.freeze().unwrap();
    let later = async {
        tokio::time::sleep(SLOW).await;
        slow.node.resume().unwrap();
    };
    let (output, ()) = tokio::join!(frontend.command(&["check", "--online"]), later);
    let output = output.unwrap();
    let said = whole(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(about(&output, "slow").last().unwrap(), "slow answers", "{said}");
    assert!(!said.contains("dead"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_and_a_backend_that_are_not_there_publish_no_descriptor() {
    let network = network::shared().await.unwrap();
    let nobody = network.free_address().unwrap();
    let absent = network.future_backend("absent", nobody).await.unwrap();
    let mut frontend =
        Frontend::start(network, "stopped", &format!("backends = ['{}']", absent.onion_address()))
            .unwrap();
    frontend.address().await.unwrap();
    frontend.stop().await.unwrap();

    let output = frontend.command(&["check", "--online"]).await.unwrap();
    let said = whole(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("remote-0 publishes no descriptor"), "{said}");
    assert!(said.contains("the service itself publishes no descriptor"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_a_backend_does_not_offer_is_told_from_a_dead_server() {
    let network = network::shared().await.unwrap();
    // `check` sees a new time period before the daemon does.
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    // A C tor backend of these tests offers port 80 alone.
    let portless = network.future_backend("portless", origin.address).await.unwrap();
    let frontend = Frontend::start(
        network,
        "port-81",
        &format!(
            "local_instances = 1\nproxy_ports = [['81', '{}']]\nbackends = ['{}']",
            origin.address,
            portless.onion_address()
        ),
    )
    .unwrap();
    portless.answer_for(&frontend.address().await.unwrap()).await.unwrap();
    frontend.ready().await.unwrap();

    let output = frontend.command(&["check", "--online"]).await.unwrap();
    let said = whole(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("port 81 is closed: it has no HiddenServicePort 81"), "{said}");
    assert!(said.contains("(published) answers"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_answers_to_the_request_of_its_probe_is_looked_at() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    for (status, verdict) in [
        (200, "(published) answers"),
        (
            204,
            "(published) answers, and the server behind port 80 answers the request with status 200",
        ),
    ] {
        let config = format!(
            "proxy_ports = [['80', '{}']]\nprobe = {{ port = 80, path = '/', status = {status} }}",
            origin.address
        );
        let frontend = Frontend::start(network, &format!("asked-for-{status}"), &config).unwrap();
        frontend.ready().await.unwrap();
        let output = frontend.command(&["check", "--online"]).await.unwrap();
        let said = whole(&output);
        assert_eq!(output.status.success(), status == 200, "{said}");
        assert_eq!(about(&output, "(published)").last().unwrap(), verdict, "{said}");
    }
}
