//! What of a database is audited.

use core::net::IpAddr;

use super::{Check, quoted};
use crate::crds::database::{AuditFilterType, AuditMode, DatabaseAuditing};

/// Most entries of a list (the product's limit).
const MOST: usize = 512;

pub(super) fn check(check: &mut Check, at: &str, auditing: &DatabaseAuditing) {
    check.one_of(
        format!("{at}.auditMode"),
        auditing.audit_mode.as_ref().map(AuditMode::as_str),
        AuditMode::WORDS,
    );
    if let Some(filter) = &auditing.source_ip_filter {
        let at = format!("{at}.sourceIpFilter");
        check_type(check, &at, filter.filter_type.as_ref());
        check_length(check, &at, "ipAddresses", filter.ip_addresses.len());
        check_length(check, &at, "cidrRanges", filter.cidr_ranges.len());
        for (n, found) in filter.ip_addresses.iter().enumerate() {
            if found.parse::<IpAddr>().is_err() {
                check.refuse(
                    format!("{at}.ipAddresses[{n}]"),
                    quoted(found),
                    "an address such as 10.0.0.10",
                    "correct it; networks belong into cidrRanges",
                );
            }
        }
        for (n, found) in filter.cidr_ranges.iter().enumerate() {
            if !is_network(found) {
                check.refuse(
                    format!("{at}.cidrRanges[{n}]"),
                    quoted(found),
                    "a network such as 10.0.1.0/24",
                    "correct it; single addresses belong into ipAddresses",
                );
            }
        }
    }
    if let Some(filter) = &auditing.username_filter {
        let at = format!("{at}.usernameFilter");
        check_type(check, &at, filter.filter_type.as_ref());
        check_length(check, &at, "usernames", filter.usernames.len());
    }
}

fn check_type(check: &mut Check, at: &str, found: Option<&AuditFilterType>) {
    check.one_of(
        format!("{at}.filterType"),
        found.map(AuditFilterType::as_str),
        AuditFilterType::WORDS,
    );
}

fn check_length(check: &mut Check, at: &str, list: &str, length: usize) {
    if length > MOST {
        check.refuse(
            format!("{at}.{list}"),
            format!("{length} entries"),
            &format!("at most {MOST}"),
            "shorten the list, or turn the filter round with filterType",
        );
    }
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let digits = !bits.is_empty() && bits.bytes().all(|digit| digit.is_ascii_digit());
    digits && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
}
