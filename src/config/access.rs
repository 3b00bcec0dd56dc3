//! Who may read the descriptors of a service, and do they fit?
//!
//! Reads the directories of clients with the configuration; `clients` says what lies in
//! one.

use super::error::{ConfigError, ConfigReport, KeyPath, whole_file};
use super::service::ServiceConfig;
use onionbraid_balancer::onion::Access;
use onionbraid_balancer::{clients_that_fit, most_points};

impl ServiceConfig {
    /// Who may read its descriptors.
    pub fn access(&self) -> Access {
        match &self.restricted_discovery {
            None => Access::Everybody,
            Some(restricted) => Access::Clients(restricted.keys()),
        }
    }

    /// What is wrong if it has more clients than its descriptors have room for.
    pub fn too_many_clients(&self) -> Option<String> {
        let clients = self.restricted_discovery.as_ref()?.keys().len();
        let backends = usize::from(self.local_instances) + self.backends.len();
        let points = most_points(self.max_intro_points, backends);
        let fit = clients_that_fit(points);
        if clients <= fit {
            return None;
        }
        let fewer = (1..points).rev().find(|points| clients <= clients_that_fit(*points));
        let advice = match fewer.filter(|points| *points >= backends) {
            Some(points) => format!("at most {points} leave room for all (`max_intro_points`)"),
            None => "serve them under several addresses".to_owned(),
        };
        Some(format!(
            "{clients} clients are authorized, and {fit} fit into a descriptor with {points} \
             introduction points: {advice}"
        ))
    }
}

/// Lets those clients stay whose directories could not be read for these services, and could
/// be for those `before`.
pub(super) fn recall_clients(services: &mut [ServiceConfig], before: &[ServiceConfig]) {
    for service in services {
        let same = before.iter().find(|it| it.nickname == service.nickname);
        let known = same.and_then(|it| it.restricted_discovery.as_ref());
        let Some((restricted, known)) = service.restricted_discovery.as_ref().zip(known) else {
            continue;
        };
        let restricted_discovery = Some(restricted.recalling(known));
        let recalling = ServiceConfig { restricted_discovery, ..service.clone() };
        if recalling.too_many_clients().is_none() {
            *service = recalling;
        }
    }
}

/// Reads the directories of all services. `order` is the position of what is said of
/// them after what is said of the configuration.
pub(super) fn look(services: &mut [ServiceConfig], order: usize, report: &mut ConfigReport) {
    for service in services.iter_mut().filter(|service| service.enabled) {
        let Some(restricted) = &service.restricted_discovery else { continue };
        let path = KeyPath::default().key("onion_services").quoted(service.nickname.as_ref());
        let path = path.key("restricted_discovery");
        let (read, problems) = restricted.read_again();
        service.restricted_discovery = Some(read);
        for problem in problems {
            report.warn(None, &path, problem.as_str());
        }
        if let Some(problem) = service.too_many_clients() {
            let place = service.restricted_discovery.as_ref().and_then(|it| it.key_dirs.first());
            let place = place.map(|directory| whole_file(order, &directory.path));
            report.error(ConfigError::at_key(place, path, problem));
        }
    }
}
