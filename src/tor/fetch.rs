//! A remote backend's own descriptor: fetched from more than one HSDir; the
//! newest wins.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use rand::seq::SliceRandom as _;

use super::held::WantedDescriptor;
use super::network::Network;
use onionbraid_balancer::fact::{FetchFailure, FetchedDescriptor, ResponsibleHsdir};
use onionbraid_balancer::onion::{OnionAddress, RelayId};

/// How long others are waited for once one HSDir has given a descriptor: one
/// that hangs would hold up what the others know for a minute.
const OTHERS_WITHIN: Duration = Duration::from_secs(5);

/// Fetches the descriptor of `address` in the current time period.
///
/// First it asks one HSDir of each replica at the same time, as two clients
/// would; if neither has a descriptor, all others that clients may ask. Of
/// several answers the highest revision counter wins: a single HSDir may hold
/// an old descriptor, or claim to have none.
///
/// One of each is enough: an upload goes to all HSDirs within seconds, so both
/// lag together by chance alone, an old copy is never believed over a newer
/// one, and the next fetch asks others. Two of each would double the circuits
/// that every backend costs the network, every minute, for that rare case.
pub(crate) async fn fetch(
    network: &Network,
    address: &OnionAddress,
    now: SystemTime,
) -> Result<FetchedDescriptor, FetchFailure> {
    let (wanted, hsdirs) = WantedDescriptor::of(network, address, now)?;
    newest_held(network, &wanted, hsdirs).await
}

/// Fetches the descriptors of `address` in the periods before and after, where
/// there are any. A C tor service has other points there.
pub(crate) async fn beside(
    network: &Network,
    address: &OnionAddress,
    now: SystemTime,
) -> Vec<FetchedDescriptor> {
    let wanted = WantedDescriptor::beside(network, address, now).into_iter();
    let fetched =
        wanted.map(async |(wanted, hsdirs)| newest_held(network, &wanted, hsdirs).await.ok());
    join_all(fetched).await.into_iter().flatten().collect()
}

/// The newest that these HSDirs hold.
async fn newest_held(
    network: &Network,
    wanted: &WantedDescriptor,
    hsdirs: Vec<ResponsibleHsdir>,
) -> Result<FetchedDescriptor, FetchFailure> {
    let (first, others) = in_order_of_asking(hsdirs);
    let mut failures = Vec::new();
    for hsdirs in [first, others] {
        let asked = hsdirs
            .iter()
            .map(async |hsdir| wanted.held_by(network, *hsdir).await.map(|held| held.descriptor));
        // Counted from when it is first waited for, not from now.
        let patience = async { tokio::time::sleep(OTHERS_WITHIN).await };
        match newest(asked, patience).await {
            Ok(newest) => return Ok(newest),
            Err(failed) => failures.extend(failed),
        }
    }
    Err(most_telling(failures))
}

/// The newest of several answers, or why there is none. After the first
/// descriptor others are waited for until `patience` ends.
async fn newest(
    asked: impl Iterator<Item = impl Future<Output = Result<FetchedDescriptor, FetchFailure>>>,
    patience: impl Future<Output = ()>,
) -> Result<FetchedDescriptor, Vec<FetchFailure>> {
    let mut answers: FuturesUnordered<_> = asked.collect();
    let mut failures = Vec::new();
    let mut newest = loop {
        match answers.next().await {
            Some(Ok(descriptor)) => break descriptor,
            Some(Err(failure)) => failures.push(failure),
            None => return Err(failures),
        }
    };
    let others = async {
        while let Some(answer) = answers.next().await {
            if let Ok(descriptor) = answer
                && descriptor.revision > newest.revision
            {
                newest = descriptor;
            }
        }
    };
    // Who has not answered by then is taken for one that fails.
    tokio::select! {
        biased;
        () = others => {}
        () = patience => {}
    }
    Ok(newest)
}

/// One replica's HSDir each to begin with, then the others; all in random
/// order, and only those that clients ask.
fn in_order_of_asking(hsdirs: Vec<ResponsibleHsdir>) -> (Vec<RelayId>, Vec<RelayId>) {
    let mut rng = super::rng();
    let mut replicas: BTreeMap<u8, Vec<RelayId>> = BTreeMap::new();
    for hsdir in hsdirs.into_iter().filter(|hsdir| hsdir.asked_by_clients) {
        replicas.entry(hsdir.replica).or_default().push(hsdir.relay);
    }
    let mut first = Vec::new();
    let mut others = Vec::new();
    for mut relays in replicas.into_values() {
        relays.shuffle(&mut rng);
        first.extend(relays.pop());
        others.extend(relays);
    }
    (first, others)
}

/// Of several failures the one to act on: a descriptor that cannot be used
/// says most, an HSDir that could not be asked says least of the backend.
fn most_telling(failures: Vec<FetchFailure>) -> FetchFailure {
    failures
        .into_iter()
        .max_by_key(|failure| match failure {
            FetchFailure::Unusable(_) => 2,
            FetchFailure::NotFound => 1,
            FetchFailure::Unreachable(_) => 0,
        })
        .unwrap_or_else(|| FetchFailure::Unreachable("no HSDir is responsible".into()))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;
    use onionbraid_balancer::onion::{Capabilities, Period};

    type Answer = Result<FetchedDescriptor, FetchFailure>;

    fn descriptor(revision: u64) -> FetchedDescriptor {
        let period = Period { number: 1, length_minutes: 1440, offset_seconds: 0 };
        FetchedDescriptor {
            period,
            revision,
            points: Vec::new(),
            flaw: None,
            capabilities: Capabilities::default(),
        }
    }

    #[tokio::test]
    async fn the_newest_wins_and_one_that_hangs_holds_nobody_up() {
        let asked: Vec<BoxFuture<'_, Answer>> = vec![
            pending().boxed(),
            ready(Ok(descriptor(3))).boxed(),
            ready(Ok(descriptor(4))).boxed(),
            ready(Err(FetchFailure::NotFound)).boxed(),
        ];
        assert_eq!(newest(asked.into_iter(), ready(())).await, Ok(descriptor(4)));
    }

    #[tokio::test]
    async fn without_any_descriptor_every_failure_is_told() {
        let asked: [BoxFuture<'_, Answer>; 2] =
            std::array::from_fn(|_| ready(Err(FetchFailure::NotFound)).boxed());
        let failures = newest(asked.into_iter(), pending()).await.unwrap_err();
        assert_eq!(failures.len(), 2);
        assert_eq!(most_telling(failures), FetchFailure::NotFound);
    }
}
