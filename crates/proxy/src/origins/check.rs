//! How an origin is that is asked every now and then.

use std::convert::Infallible;
use std::time::Duration;

use futures::future::join_all;
use hyper::Request;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use rand::RngExt as _;
use tokio::time::{sleep, timeout};

use super::upload::Upload;
use super::{Member, Origins, request};
use crate::answer;
use crate::body;
use crate::causes::in_one_line;
use crate::settings::HealthCheck;

/// What checks call themselves.
const NAME: &str = concat!("onionbraid/", env!("CARGO_PKG_VERSION"), " (health check)");

impl Origins {
    /// Checks every origin for as long as it is polled, if the settings say
    /// so. The first check is at once: nobody knows yet how an origin is.
    pub async fn watch(&self) -> Infallible {
        if let Some(check) = &self.settings.health_check {
            let members = self.members.iter().enumerate();
            join_all(members.map(|(index, member)| self.watch_one(index, member, check))).await;
        }
        std::future::pending().await
    }

    async fn watch_one(&self, index: usize, member: &Member, check: &HealthCheck) -> Infallible {
        loop {
            let result = match timeout(check.timeout, self.check(member, check)).await {
                Ok(result) => result,
                Err(_) => {
                    let limit = humantime::format_duration(check.timeout);
                    Err(format!("the health check took longer than {limit}"))
                }
            };
            self.learn(index, |health| health.checked(result));
            sleep(jittered(check.interval)).await;
        }
    }

    async fn check(&self, member: &Member, check: &HealthCheck) -> Result<(), String> {
        let Some(path) = &check.path else {
            let connecting = member.pool.dialer().connect(None);
            return connecting.await.map(drop).map_err(|error| in_one_line(&error));
        };
        let connecting = member.pool.dialer().http(None);
        let mut sender = connecting.await.map_err(|error| in_one_line(&error))?.0;
        let (upload, _progress) = Upload::new(body::empty(), None);
        let mut question = Request::get(path.as_str())
            .header(USER_AGENT, HeaderValue::from_static(NAME))
            .header(HOST, member.host.as_str())
            .body(upload)
            .map_err(|error| format!("the health check cannot be sent: {error}"))?;
        request::shape(&mut question, self.settings.protocol, member.tls)
            .map_err(|_| "the health check has no proper target".to_owned())?;
        let answer = sender.send(question).await;
        let answer = answer.map_err(|error| in_one_line(error.error()))?;
        let mut head = answer.into_parts().0;
        answer::judge(self.heads.fields, &mut head).map_err(|flaw| flaw.to_string())?;
        let status = head.status.as_u16();
        if check.status.contains(&status) {
            Ok(())
        } else {
            Err(format!("the health check was answered {status}"))
        }
    }
}

/// Not all checks at the same moment, nor several proxies in step: a tenth
/// more or less.
#[expect(clippy::disallowed_methods, reason = "randomness enters the proxy here")]
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(0.9..1.1))
}
