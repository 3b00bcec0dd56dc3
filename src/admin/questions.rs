//! Questions that need the network, and orders of operators: a POST of JSON to
//! `/v1/…`. Questions are answered by the daemon's own Tor client, so that commands
//! need none; what orders say is in `orders`.
//!
//! Only over the Unix socket, which is its owner's alone: whoever asks makes the
//! daemon build circuits. A few are answered at a time, each within a limit, and
//! an answer is given up when its client goes away (hyper drops the request's
//! future then). That work can take minutes, so no shorter time limit on a
//! connection may run while [`answer`] does; reading the question has its own. None
//! is taken that a web page may have sent: see `browsers`.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::browsers;
use super::connections::respond;
use super::orders;

/// What the paths of questions begin with.
pub(super) const BELOW: &str = "/v1/";

/// Questions that are worked on at a time; the others wait.
const AT_ONCE: usize = 2;

/// The longest question to read, in bytes.
const QUESTION_AT_MOST: usize = 1024 * 1024;

/// How long reading one may take.
const QUESTION_WITHIN: Duration = Duration::from_secs(10);

/// How long the answer may take, the wait for a turn included.
const ANSWER_WITHIN: Duration = Duration::from_secs(15 * 60);

/// How long an order may take to be obeyed before that is no longer waited for.
pub const OBEYED_WITHIN: Duration = Duration::from_secs(60);

/// What is asked, and by whom.
#[derive(Clone, Debug)]
pub struct NetworkQuestion {
    /// The path.
    pub path: String,
    /// The question or order, as JSON.
    pub body: Bytes,
    /// The user, by its number on the machine; `None`: the system does not tell.
    pub user: Option<u32>,
}

/// Answers what is asked with JSON.
pub type AnswerQuestion =
    Arc<dyn Fn(NetworkQuestion) -> BoxFuture<'static, Result<Vec<u8>, NoAnswer>> + Send + Sync>;

/// Why a question has no answer. Each has its text for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// No question is asked at this path.
    #[error("there is no such question")]
    Unknown,
    /// It makes no sense.
    #[error("the question makes no sense: {0}")]
    Malformed(String),
    /// Later, perhaps.
    #[error("{0}")]
    NotReady(String),
    /// The network has none.
    #[error("{0}")]
    Failed(String),
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// The order would do harm.
    #[error("{0}")]
    Refused(String),
    /// The order cannot be written down, and is not taken.
    #[error("{0}")]
    NotKept(String),
    /// The system denies it, or a key cannot be used.
    #[error("{0}")]
    Denied(String),
    /// The files cannot be used.
    #[error("{0}")]
    Configuration(String),
}

impl NetworkQuestion {
    /// Whether it is an order rather than a question to the network: it is obeyed
    /// at once, however many questions are under way.
    fn is_order(&self) -> bool {
        self.path == orders::RELOAD || self.path.starts_with(orders::SERVICES)
    }
}

/// What answers questions, one for all connections.
pub(super) struct NetworkQuestions {
    answer: AnswerQuestion,
    turns: Semaphore,
}

impl NetworkQuestions {
    pub(super) fn new(answer: AnswerQuestion) -> Self {
        Self { answer, turns: Semaphore::new(AT_ONCE) }
    }
}

/// Answers one request below [`BELOW`]; `None`: they are not answered here.
pub(super) async fn answer<B>(
    request: Request<B>,
    user: Option<u32>,
    questions: Option<Arc<NetworkQuestions>>,
) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let plain = |status, text: String| respond(status, "text/plain; charset=utf-8", text + "\n");
    let Some(questions) = questions else {
        let text = "questions and orders are taken on a Unix socket only";
        return plain(StatusCode::FORBIDDEN, text.into());
    };
    let (head, body) = request.into_parts();
    if let Some((status, why)) = browsers::refusal(&head) {
        return plain(status, why.into());
    }
    let path = head.uri.path().to_owned();
    let body = Limited::new(body, QUESTION_AT_MOST).collect();
    let question = match timeout(QUESTION_WITHIN, body).await {
        Ok(Ok(question)) => NetworkQuestion { path, body: question.to_bytes(), user },
        Ok(Err(error)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the question is not whole".into()),
    };
    let is_order = question.is_order();
    let answered = if is_order {
        timeout(OBEYED_WITHIN, (questions.answer)(question)).await
    } else {
        let answered = async {
            // Nobody closes the semaphore.
            let _turn = questions.turns.acquire().await;
            (questions.answer)(question).await
        };
        timeout(ANSWER_WITHIN, answered).await
    };
    match answered {
        Ok(Ok(json)) => respond(StatusCode::OK, "application/json", json),
        Ok(Err(why)) => plain(status(&why), why.to_string()),
        Err(_) if is_order => plain(StatusCode::GATEWAY_TIMEOUT, orders::MAYBE_LATER.into()),
        Err(_) => plain(StatusCode::GATEWAY_TIMEOUT, "no answer in time".into()),
    }
}

fn status(why: &NoAnswer) -> StatusCode {
    match why {
        NoAnswer::Unknown | NoAnswer::NotFound(_) => StatusCode::NOT_FOUND,
        NoAnswer::Denied(_) => StatusCode::FORBIDDEN,
        NoAnswer::Refused(_) => StatusCode::CONFLICT,
        NoAnswer::Configuration(_) => StatusCode::UNPROCESSABLE_ENTITY,
        NoAnswer::Malformed(_) => StatusCode::BAD_REQUEST,
        NoAnswer::NotKept(_) => StatusCode::INSUFFICIENT_STORAGE,
        NoAnswer::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
        NoAnswer::Failed(_) => StatusCode::BAD_GATEWAY,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinSet;

    use super::*;

    fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        let request = Request::post(path).header("content-type", "application/json");
        request.body(Full::new(body.into())).unwrap()
    }

    fn echo() -> Arc<NetworkQuestions> {
        Arc::new(NetworkQuestions::new(Arc::new(|asked: NetworkQuestion| {
            let known = asked.path == "/v1/echo";
            async move { if known { Ok(asked.body.to_vec()) } else { Err(NoAnswer::Unknown) } }
                .boxed()
        })))
    }

    #[tokio::test]
    async fn questions_are_answered_on_the_unix_socket_alone() {
        let answered = answer(post("/v1/echo", "{}"), None, Some(echo())).await;
        assert_eq!(answered.status(), StatusCode::OK);
        let refused = answer(post("/v1/echo", "{}"), None, None).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn only_a_post_of_bounded_length_to_a_known_path_is_a_question() {
        let refused = async |request| answer(request, None, Some(echo())).await.status();
        let get = Request::get("/v1/echo").body(Full::default()).unwrap();
        assert_eq!(refused(get).await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refused(post("/v1/other", "{}")).await, StatusCode::NOT_FOUND);
        let long = post("/v1/echo", vec![b' '; QUESTION_AT_MOST + 1]);
        assert_eq!(refused(long).await, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_is_not_obeyed_in_time_is_said_to_be_perhaps_obeyed_later() {
        let start = tokio::time::Instant::now();
        let questions = endless(&Arc::default());
        let answered = answer(post(orders::RELOAD, "{}"), None, Some(questions)).await;
        assert_eq!(answered.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(start.elapsed() <= OBEYED_WITHIN + Duration::from_secs(1));
        let said = answered.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&said).contains("may still be obeyed"), "{said:?}");
    }

    /// Counts the answers under way, which never come.
    fn endless(under_way: &Arc<AtomicUsize>) -> Arc<NetworkQuestions> {
        struct UnderWay(Arc<AtomicUsize>);
        impl Drop for UnderWay {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let under_way = Arc::clone(under_way);
        Arc::new(NetworkQuestions::new(Arc::new(move |_| {
            under_way.fetch_add(1, Ordering::SeqCst);
            let guard = UnderWay(Arc::clone(&under_way));
            async move {
                let _guard = guard;
                std::future::pending().await
            }
            .boxed()
        })))
    }

    async fn until(under_way: &AtomicUsize, number: usize) {
        while under_way.load(Ordering::SeqCst) != number {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_worked_on_at_a_time_and_none_for_ever() {
        let under_way = Arc::new(AtomicUsize::new(0));
        let questions = endless(&under_way);
        let mut asking = JoinSet::new();
        for _ in 0..5 {
            asking.spawn(answer(post("/v1/x", "{}"), None, Some(Arc::clone(&questions))));
        }
        until(&under_way, AT_ONCE).await;
        while let Some(answered) = asking.join_next().await {
            assert_eq!(answered.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
            assert!(under_way.load(Ordering::SeqCst) <= AT_ONCE);
        }
        assert_eq!(under_way.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn an_answer_is_given_up_when_its_client_goes_away() {
        let under_way = Arc::new(AtomicUsize::new(0));
        let (mut client, server) = tokio::io::duplex(4096);
        let mut connections = JoinSet::new();
        let snapshot: super::super::TakeSnapshot = Arc::new(|| unreachable!("nobody asks for it"));
        let questions = Some(endless(&under_way));
        let server = Box::new(server);
        connections.spawn(super::super::answer_connection(server, None, snapshot, questions, true));
        let request = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\
            content-type: application/json\r\n\r\n{}";
        client.write_all(request).await.unwrap();
        until(&under_way, 1).await;
        // Still asking: nothing is given up.
        let silence = timeout(Duration::from_millis(50), client.read_u8()).await;
        assert!(silence.is_err());
        assert_eq!(under_way.load(Ordering::SeqCst), 1);
        drop(client);
        until(&under_way, 0).await;
    }
}
