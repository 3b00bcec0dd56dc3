//! May another publisher of a service be switched off? In words, for whoever replaces
//! a machine (docs/changing-machines.md).
//!
//! Publishers know nothing of each other, so the question is what would happen if this
//! one were alone: it has to know every backend, and what it would publish has to be
//! on every HSDir, whoever brought it there.

use super::snapshot::{BackendState, HsdirState, Service, ServiceState, Word};
use super::words::counted;

/// What to say of it; `None` where there is no other publisher.
pub(super) fn words(service: &Service) -> Option<String> {
    let said = match missing(service) {
        None => {
            "the other publishers may be switched off: this one knows every backend, and every \
                 HSDir has the descriptor"
                .to_owned()
        }
        Some(missing) => format!("leave the other publishers running: {missing}"),
    };
    service.several_publishers.then_some(said)
}

/// What this publisher has not got.
fn missing(service: &Service) -> Option<String> {
    if service.state != ServiceState::Published {
        return Some("this one does not reach clients yet".to_owned());
    }
    let unknown = |it: &&super::snapshot::Backend| it.state == BackendState::Unknown;
    if let Some(backend) = service.backends.iter().find(unknown) {
        return Some(format!("this one has not heard of backend {} yet", backend.name));
    }
    // With distinct descriptors and many backends they take turns.
    let takes_turns = service.descriptors.iter().any(|descriptor| descriptor.distinct);
    let unlisted = service.backends.iter().find(|it| {
        let in_use = it.operator == Word::Ready && it.weight > 0;
        in_use && it.state == BackendState::Up && it.published_intro_points == 0 && !takes_turns
    });
    if let Some(backend) = unlisted {
        return Some(format!("its descriptor has no point of backend {} yet", backend.name));
    }
    let hsdirs = || service.descriptors.iter().flat_map(|descriptor| &descriptor.hsdirs);
    let open = hsdirs().filter(|hsdir| hsdir.state != HsdirState::Uploaded).count();
    let all = hsdirs().count();
    let have = if open == 1 { "has" } else { "have" };
    (open > 0 || all == 0)
        .then(|| format!("{open} of {} {have} not got its descriptor yet", counted(all, "HSDir")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example::{backend, descriptor, hsdir, service};
    use crate::observe::snapshot::{Backend, BackendKind};

    fn shop() -> Service {
        let up = |name| backend(name, BackendKind::Remote, BackendState::Up);
        let hsdirs = vec![hsdir("AA", None), hsdir("BB", None)];
        let service = service("shop", vec![up("berlin"), up("oslo")], vec![descriptor(hsdirs)]);
        Service { several_publishers: true, ..service }
    }

    #[test]
    fn where_this_publisher_would_do_alone_the_others_may_be_switched_off() {
        assert!(words(&shop()).unwrap().starts_with("the other publishers may be switched off"));
        // A backend that is down is known to be, and one that is out of use is not missed.
        let mut shop = shop();
        shop.backends[0].state = BackendState::Down;
        shop.backends[1] = Backend {
            operator: Word::Drain,
            published_intro_points: 0,
            ..shop.backends[1].clone()
        };
        assert!(words(&shop).unwrap().contains("may be switched off"));
    }

    #[test]
    fn a_single_publisher_is_told_nothing() {
        assert_eq!(words(&Service { several_publishers: false, ..shop() }), None);
    }

    #[test]
    fn what_this_publisher_has_not_got_is_said_and_keeps_the_others_needed() {
        let said = |change: fn(&mut Service)| {
            let mut service = shop();
            change(&mut service);
            words(&service).unwrap()
        };
        for (said, expected) in [
            (said(|it| it.state = ServiceState::Publishing), "does not reach clients"),
            (said(|it| it.backends[1].state = BackendState::Unknown), "heard of backend oslo"),
            (said(|it| it.backends[0].published_intro_points = 0), "no point of backend berlin"),
            (
                said(|it| it.descriptors[0].hsdirs[1].state = HsdirState::Pending),
                "1 of 2 HSDirs has not got its descriptor yet",
            ),
            (said(|it| it.descriptors.clear()), "0 of 0 HSDirs"),
        ] {
            assert!(said.starts_with("leave the other publishers running: "), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }
}
