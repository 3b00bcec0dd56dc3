//! Which users and groups does the system know? As `/etc/passwd` and `/etc/group`
//! have them; where others may know more (LDAP and the like), nothing is certain.
//!
//! PURE after the files have been read.

use std::fs;
use std::io;

/// The databases of users and groups.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Names, user IDs and primary groups; `None` if they are not known.
    users: Option<Vec<(String, u32, u32)>>,
    /// Group IDs and the names of the members.
    groups: Vec<(u32, Vec<String>)>,
}

impl Accounts {
    /// What is in `/etc`. A system without a database has no users.
    pub(super) fn of_system() -> Self {
        let read = |path: &str| match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(String::new()),
            text => text.ok(),
        };
        let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
        let switch = read("/etc/nsswitch.conf");
        Self::new(passwd.as_deref(), group.as_deref(), switch.as_deref())
    }

    /// What these files say; `None` is one that cannot be read.
    pub(super) fn new(passwd: Option<&str>, group: Option<&str>, switch: Option<&str>) -> Self {
        let user = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, user, group, ..] = fields.as_slice() else { return None };
            Some(((*name).to_owned(), user.parse().ok()?, group.parse().ok()?))
        };
        let members = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [_, _, group, members] = fields.as_slice() else { return None };
            let members = members.split(',').map(str::trim).filter(|name| !name.is_empty());
            Some((group.parse().ok()?, members.map(str::to_owned).collect()))
        };
        // Lines of NIS stand for users and members that are elsewhere.
        let has_nis = |text: Option<&str>| {
            text.is_some_and(|text| text.lines().any(|line| line.starts_with(['+', '-'])))
        };
        let complete = switch.is_none_or(is_local) && !has_nis(passwd) && !has_nis(group);
        let users = match (passwd, group) {
            (Some(passwd), Some(_)) if complete => Some(passwd.lines().filter_map(user).collect()),
            _ => None,
        };
        let groups = group.unwrap_or_default().lines().filter_map(members).collect();
        Self { users, groups }
    }

    /// Whether nobody but root and `user` is in a group.
    pub(super) fn only(&self, user: u32, group: u32) -> bool {
        let Some(users) = &self.users else { return false };
        let trusted = |id: u32| id == 0 || id == user;
        // One that the file does not have, another database may.
        let is_trusted = |name: &String| {
            let mut of_name = users.iter().filter(|(found, ..)| found == name).peekable();
            (name == "root" || of_name.peek().is_some()) && of_name.all(|(_, id, _)| trusted(*id))
        };
        let primary = users.iter().filter(|(_, _, primary)| *primary == group);
        let members = self.groups.iter().filter(|(id, _)| *id == group);
        primary.map(|(_, id, _)| *id).all(trusted)
            && members.flat_map(|(_, members)| members).all(is_trusted)
    }
}

/// Whether `nsswitch.conf` has users and groups from this system alone.
fn is_local(switch: &str) -> bool {
    const LOCAL: [&str; 4] = ["files", "compat", "systemd", "mymachines"];
    switch.lines().all(|line| {
        let line = line.split('#').next().unwrap_or_default();
        match line.split_once(':') {
            Some((database, sources))
                if ["passwd", "group", "initgroups"].contains(&database.trim()) =>
            {
                let mut sources = sources.split_whitespace();
                sources.all(|source| source.starts_with('[') || LOCAL.contains(&source))
            }
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/false\n\
                          onion:x:90:90::/:/bin/false\nann:x:1000:100::/:/bin/sh\n";

    fn only(group: &str, switch: Option<&str>, id: u32) -> bool {
        Accounts::new(Some(PASSWD), Some(group), switch).only(90, id)
    }

    #[test]
    fn a_group_is_a_users_own_without_other_members() {
        let group = "root:x:0:\nkeys:x:50:onion,root\nshared:x:51:onion,web\nonion:x:90:\n";
        for (id, own) in [(0, true), (50, true), (51, false), (90, true), (100, false), (7, true)] {
            assert_eq!(only(group, None, id), own, "{id}");
        }
    }

    #[test]
    fn users_that_only_another_machine_knows_make_it_uncertain() {
        assert!(only(
            "",
            Some("passwd: files systemd\ngroup: files [SUCCESS=merge] systemd\n"),
            90
        ));
        assert!(only("", Some("hosts: files dns\n"), 90));
        assert!(!only("", Some("passwd: files sss\n"), 90));
        assert!(!only("", Some("group:\tfiles ldap # here\n"), 90));
        assert!(!Accounts::new(None, Some(""), None).only(90, 90), "not to be read");
        assert!(!only("keys:x:50:onion\n+:::\n", None, 50), "members of NIS");
        assert!(!only("keys:x:50:onion,homed\n", None, 50), "a member of another database");
    }
}
