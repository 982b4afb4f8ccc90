//! What `INFO replication` says. Pure.

use std::collections::BTreeMap;

use crate::permission::{Following, Position};

/// A shard's place in replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// Whom it follows.
    pub position: Position,
    /// The port at which it follows; 0: it leads.
    pub port: u16,
    /// Identity of the stream that the offset is about: drawn by the process that leads, taken over by those that follow it.
    pub stream: String,
    /// Position in the stream, bytes: written (primary) or applied (replica).
    pub offset: u64,
    /// Primary: its replicas by the names they announced.
    pub copies: BTreeMap<String, Copy>,
}

/// A replica as its primary sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// It follows the live stream.
    pub online: bool,
    /// What it has acknowledged, bytes.
    pub offset: u64,
}

impl Replicated {
    /// Reads the section; `None` if it is none.
    #[must_use]
    pub fn parse(info: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .collect();
        let number = |name: &str| fields.get(name).and_then(|v| v.parse::<u64>().ok());
        let position = match *fields.get("role")? {
            "master" => Position::Leads,
            "slave" => {
                let state = if number("master_sync_in_progress") == Some(1) {
                    Following::Copying
                } else if fields.get("master_link_status") == Some(&"up") {
                    Following::Up
                } else {
                    Following::Down
                };
                Position::Follows {
                    host: (*fields.get("master_host")?).to_owned(),
                    state,
                }
            }
            _ => return None,
        };
        let offset = match position {
            Position::Leads => number("master_repl_offset"),
            Position::Follows { .. } => number("slave_repl_offset"),
        };
        let copies = fields
            .iter()
            .filter(|(name, _)| is_copy(name))
            .filter_map(|(_, value)| copy(value))
            .collect();
        Some(Self {
            port: fields
                .get("master_port")
                .and_then(|port| port.parse().ok())
                .unwrap_or(0),
            position,
            stream: (*fields.get("master_replid").unwrap_or(&"")).to_owned(),
            offset: offset.unwrap_or(0),
            copies,
        })
    }
}

/// `slave0`, `slave1`, …
fn is_copy(name: &str) -> bool {
    name.strip_prefix("slave")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

fn copy(value: &str) -> Option<(String, Copy)> {
    let fields: BTreeMap<&str, &str> = value.split(',').filter_map(|f| f.split_once('=')).collect();
    let copy = Copy {
        online: fields.get("state") == Some(&"online"),
        offset: fields.get("offset")?.parse().ok()?,
    };
    Some(((*fields.get("ip")?).to_owned(), copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_knows_its_replicas_by_the_names_they_announce() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
            slave0:ip=rec-1,port=12000,state=online,offset=42,lag=0,type=replica\r\n\
            slave1:ip=rec-2,port=12000,state=wait_bgsave,offset=0,lag=0,type=replica\r\n\
            master_replid:8d\r\nmaster_repl_offset:50\r\n";
        let found = Replicated::parse(info).unwrap();
        assert_eq!(found.stream, "8d");
        assert_eq!((found.position, found.offset), (Position::Leads, 50));
        let copy = |online, offset| Copy { online, offset };
        assert_eq!(
            found.copies,
            [
                ("rec-1".to_owned(), copy(true, 42)),
                ("rec-2".to_owned(), copy(false, 0))
            ]
            .into()
        );
    }

    #[test]
    fn a_replica_is_down_copying_or_up() {
        for (link, copying, state) in [
            ("down", 0, Following::Down),
            ("down", 1, Following::Copying),
            ("up", 0, Following::Up),
        ] {
            let info = format!(
                "role:slave\r\nmaster_host:h\r\nmaster_link_status:{link}\r\nmaster_sync_in_progress:{copying}\r\n\
                 slave_repl_offset:9\r\nmaster_repl_offset:8\r\n"
            );
            let found = Replicated::parse(&info).unwrap();
            let host = "h".to_owned();
            assert_eq!(found.position, Position::Follows { host, state });
            assert_eq!(found.offset, 9);
        }
    }

    #[test]
    fn what_is_no_such_section_is_nothing() {
        assert_eq!(Replicated::parse("# Server\r\n"), None);
    }
}
