//! What clients do by plain HTTP, and what comes of it, once more by TLS: the very
//! tests, with a client in between that encrypts. Two are missing, of clients that take
//! less at a time than a record: who is in between takes records whole.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::time::Duration;

use onionbraid_proxy::rules::CertificateFiles;
use onionbraid_proxy::tls::{KeyCheck, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncWriteExt as _, DuplexStream, copy, split};
use tokio_rustls::TlsConnector;

thread_local! {
    /// Whether the clients of this thread's test come by TLS.
    static ON: Cell<bool> = const { Cell::new(false) };
    /// Both ends.
    static ENDS: OnceCell<Ends> = const { OnceCell::new() };
}

/// Both ends of the TLS of a test.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(crate) tls: Arc<Tls>,
    connector: TlsConnector,
}

/// What clients come by, where it is not plain.
pub(crate) fn ends() -> Option<Ends> {
    ON.get().then(|| ENDS.with(|ends| ends.get_or_init(Ends::new).clone()))
}

impl Ends {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["a.onion".to_owned()]).unwrap();
        let certificate = directory.path().join("certificate.pem");
        let key = directory.path().join("key.pem");
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        let files = [CertificateFiles { certificate, key }];
        let tls = Arc::new(Tls::new(&files, &KeyCheck::new(|_, _| Ok(()))).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Encrypts what a client says and hears in clear on the first stream.
    pub(crate) async fn client(self, clear: DuplexStream, stream: DuplexStream) {
        let name = ServerName::try_from("a.onion").unwrap();
        let stream = self.connector.connect(name, stream).await.unwrap();
        let (mut said, mut heard) = split(clear);
        let (mut answers, mut questions) = split(stream);
        let asking = async {
            if copy(&mut said, &mut questions).await.is_err() {
                // An answer may have come all the same, and nobody may want it.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
            let _ = questions.shutdown().await;
            std::future::pending().await
        };
        let hearing = async {
            let _ = copy(&mut answers, &mut heard).await;
            let _ = heard.shutdown().await;
        };
        tokio::select! {
            () = asking => {}
            () = hearing => {}
        }
    }
}

/// Runs a test by TLS.
fn by_tls(test: fn()) {
    ON.set(true);
    test();
    ON.set(false);
}

/// Each of these tests by TLS, under its own name.
macro_rules! once_more {
    ($($file:ident: $($name:ident),+;)+) => {
        $(mod $file {
            $(#[test]
            fn $name() {
                super::by_tls(crate::$file::$name);
            })+
        })+
    };
}

once_more! {
    smuggling:
        an_ambiguous_head_is_refused_before_anybody_is_asked,
        a_body_that_breaks_its_framing_never_becomes_a_whole_request,
        what_is_unusual_and_right_passes,
        requests_before_a_refused_one_get_their_answers_first,
        who_imitates_the_sign_of_a_refusal_is_a_client_like_any_other;
    floods:
        streams_beyond_those_of_a_circuit_are_refused_over_all_of_its_connections,
        a_connection_whose_streams_are_refused_again_and_again_is_closed,
        without_another_word_a_circuit_has_128_requests_under_way,
        a_circuit_has_eight_connections_of_http_2,
        a_page_of_ours_that_nobody_takes_is_given_up_soon,
        a_process_with_enough_requests_refuses_others_and_blames_nobody;
    http2:
        a_request_and_its_trailers_become_http_1_and_back,
        requests_of_one_connection_do_not_wait_for_each_other,
        what_http_1_could_misread_is_refused,
        fields_of_one_connection_are_refused_by_the_protocol,
        a_connection_without_requests_is_closed,
        a_connection_whose_last_flush_had_to_wait_is_closed_all_the_same,
        a_connection_has_no_more_streams_than_its_circuit_gets_at_the_origin,
        a_stream_that_nobody_reads_ends_alone,
        a_client_that_reads_nothing_is_left_though_it_keeps_a_request_alive,
        slow_streams_of_one_connection_all_get_their_answers,
        the_ends_of_many_answers_are_waited_for,
        our_own_answer_to_head_has_a_length_and_no_body,
        a_client_that_leaves_takes_its_requests_along;
    timeouts:
        a_client_that_says_nothing_is_left_without_a_word,
        a_head_that_does_not_end_is_answered_with_nothing,
        a_head_that_drips_has_no_more_time,
        a_stream_without_a_next_request_ends_quietly,
        the_time_for_the_next_head_begins_after_the_answer,
        a_client_that_stops_in_the_middle_of_its_body_is_answered_408,
        a_body_that_moves_slowly_is_not_interrupted,
        an_origin_that_does_not_take_the_body_is_answered_for_504,
        an_origin_that_stops_in_the_middle_breaks_the_answer,
        a_client_that_stops_reading_is_given_up,
        a_client_that_does_not_take_the_end_of_an_answer_is_given_up,
        events_may_be_as_rare_as_the_operator_allows,
        a_request_has_no_more_than_its_whole_time,
        the_whole_time_of_a_request_ends_with_it;
    bodies:
        a_client_that_does_not_read_costs_little_memory,
        an_origin_that_does_not_read_costs_little_memory,
        a_client_that_pipelines_without_reading_costs_little_memory,
        a_body_that_says_it_is_too_long_is_refused_before_it_is_sent,
        a_body_that_turns_out_too_long_is_refused_if_there_is_no_answer_yet,
        a_body_that_turns_out_too_long_after_the_answer_began_breaks_the_stream;
    upgrades:
        after_a_change_of_protocol_bytes_flow_both_ways_until_the_origin_ends,
        what_a_client_says_before_it_leaves_still_arrives,
        what_a_client_sends_before_the_origin_agrees_waits_for_it,
        when_the_origin_does_not_agree_the_stream_goes_on_with_http,
        what_follows_a_refused_change_is_checked_like_any_request,
        no_other_http_is_offered_to_the_origin,
        a_client_that_leaves_while_the_origin_thinks_about_it_aborts_the_request,
        silence_ends_an_upgraded_stream_and_any_byte_prolongs_it,
        a_request_with_content_asks_for_no_upgrade,
        an_origin_may_agree_only_to_what_it_was_offered,
        the_operator_says_which_protocols_there_are,
        an_upgraded_stream_holds_no_more_than_any_other;
    messages:
        a_request_and_its_response_pass_and_the_stream_stays_open_for_more,
        an_absolute_target_reaches_the_origin_as_a_path,
        chunks_pass_however_the_origin_writes_their_name,
        a_client_of_http_1_0_gets_no_chunks_and_the_end_of_the_stream,
        a_client_of_http_1_0_that_names_no_host_asks_for_the_one_it_connected_to,
        connection_close_is_heeded,
        the_answer_to_head_keeps_its_length_and_has_no_body,
        responses_without_a_body_leave_the_stream_usable,
        ranges_are_between_the_client_and_the_origin,
        trailers_pass_in_both_directions,
        a_client_that_waits_for_100_continue_is_told_to_go_on,
        no_expectation_reaches_the_origin,
        what_only_proxies_may_say_reaches_no_origin_in_head_or_trailers,
        what_the_operator_lets_pass_reaches_the_origin_in_head_and_trailers,
        events_are_delivered_as_they_happen,
        an_early_answer_arrives_while_the_client_still_sends,
        answers_to_pipelined_requests_come_in_order,
        a_large_body_arrives_whole,
        the_access_log_says_nothing_of_what_was_asked_for;
}
