//! What the two relays of a probe may say, and who is told.
//!
//! These run inside the circuits' reactors, so they only pass things on.

use tokio::sync::oneshot;
use tor_cell::relaycell::RelayMsg as _;
use tor_cell::relaycell::hs::IntroduceAckStatus;
use tor_cell::relaycell::msg::{AnyRelayMsg, Rendezvous2};
use tor_proto::{MetaCellDisposition, MsgHandler};

tor_cell::restricted_msg! {
    /// What a rendezvous point may say to a client.
    enum FromRendezvousPoint : RelayMsg {
        RendezvousEstablished,
        Rendezvous2,
    }
}

tor_cell::restricted_msg! {
    /// What an introduction point may say to a client.
    enum FromIntroPoint : RelayMsg {
        IntroduceAck,
    }
}

/// Waits on the circuit to the rendezvous point (rend-spec-v3, section 4).
pub(super) struct AtRendezvousPoint {
    /// Told when the relay has agreed to be the rendezvous point.
    established: Option<oneshot::Sender<()>>,
    /// Told when the service has come.
    met: Option<oneshot::Sender<Rendezvous2>>,
}

impl AtRendezvousPoint {
    /// Waits for both messages, in their order.
    pub(super) fn new() -> (Self, oneshot::Receiver<()>, oneshot::Receiver<Rendezvous2>) {
        let (established, is_established) = oneshot::channel();
        let (met, is_met) = oneshot::channel();
        (Self { established: Some(established), met: Some(met) }, is_established, is_met)
    }
}

impl MsgHandler for AtRendezvousPoint {
    fn handle_msg(&mut self, message: AnyRelayMsg) -> tor_proto::Result<MetaCellDisposition> {
        let message = FromRendezvousPoint::try_from(message).map_err(unexpected)?;
        match (message, self.established.take(), self.met.take()) {
            (FromRendezvousPoint::RendezvousEstablished(_), Some(established), met) => {
                self.met = met;
                Ok(told(established.send(()), MetaCellDisposition::Consumed))
            }
            (FromRendezvousPoint::Rendezvous2(message), None, Some(met)) => {
                Ok(told(met.send(message), MetaCellDisposition::ConversationFinished))
            }
            _ => Err(tor_proto::Error::CircProto("rendezvous messages out of order".into())),
        }
    }
}

/// Waits on the circuit to the introduction point for its one answer.
pub(super) struct AtIntroPoint {
    /// Told what became of the introduction.
    acknowledged: Option<oneshot::Sender<IntroduceAckStatus>>,
}

impl AtIntroPoint {
    /// Waits for INTRODUCE_ACK.
    pub(super) fn new() -> (Self, oneshot::Receiver<IntroduceAckStatus>) {
        let (acknowledged, is_acknowledged) = oneshot::channel();
        (Self { acknowledged: Some(acknowledged) }, is_acknowledged)
    }
}

impl MsgHandler for AtIntroPoint {
    fn handle_msg(&mut self, message: AnyRelayMsg) -> tor_proto::Result<MetaCellDisposition> {
        let FromIntroPoint::IntroduceAck(ack) =
            FromIntroPoint::try_from(message).map_err(unexpected)?;
        match self.acknowledged.take() {
            Some(teller) => {
                Ok(told(teller.send(ack.status()), MetaCellDisposition::ConversationFinished))
            }
            None => Err(tor_proto::Error::CircProto("second INTRODUCE_ACK".into())),
        }
    }
}

/// Goes on, unless nobody waits any more.
fn told<T>(sent: Result<(), T>, then: MetaCellDisposition) -> MetaCellDisposition {
    match sent {
        Ok(()) => then,
        Err(_) => MetaCellDisposition::CloseCirc,
    }
}

fn unexpected(message: AnyRelayMsg) -> tor_proto::Error {
    tor_proto::Error::CircProto(format!("{} on a probe's circuit", message.cmd()))
}

#[cfg(test)]
mod tests {
    use tor_cell::relaycell::hs::{IntroduceAck, RendezvousEstablished};

    use super::*;

    fn met() -> AnyRelayMsg {
        Rendezvous2::new(*b"handshake").into()
    }

    #[test]
    fn the_rendezvous_point_agrees_first_and_then_the_service_comes_once() {
        let (mut replies, mut established, mut is_met) = AtRendezvousPoint::new();
        replies.handle_msg(RendezvousEstablished::default().into()).unwrap();
        established.try_recv().unwrap();
        replies.handle_msg(met()).unwrap();
        assert_eq!(is_met.try_recv().unwrap().handshake_info(), b"handshake");
        assert!(replies.handle_msg(met()).is_err());
    }

    #[test]
    fn messages_out_of_order_or_of_another_kind_end_the_circuit() {
        let (mut replies, _established, mut is_met) = AtRendezvousPoint::new();
        assert!(replies.handle_msg(met()).is_err());
        assert!(is_met.try_recv().is_err());
        let (mut replies, _acknowledged) = AtIntroPoint::new();
        assert!(replies.handle_msg(met()).is_err());
    }

    #[test]
    fn a_refused_introduction_is_told_with_its_status_and_only_once() {
        let (mut replies, mut acknowledged) = AtIntroPoint::new();
        let refused = || IntroduceAck::new(IntroduceAckStatus::NOT_RECOGNIZED).into();
        replies.handle_msg(refused()).unwrap();
        assert_eq!(acknowledged.try_recv(), Ok(IntroduceAckStatus::NOT_RECOGNIZED));
        assert!(replies.handle_msg(refused()).is_err());
    }
}
