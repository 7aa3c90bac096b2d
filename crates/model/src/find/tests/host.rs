//! Which virtual host an authority gets.

use std::sync::Arc;

use crate::{HostTable, InsecureAction, RouteTable, VirtualHost};

pub(super) fn hosts(names: &[&str]) -> HostTable {
    let routes = Arc::new(RouteTable::new(Vec::new()));
    let host = |name: &&str| {
        Arc::new(VirtualHost {
            object: None,
            hostname: (*name).into(),
            insecure: InsecureAction::Route,
            routes: Arc::clone(&routes),
        })
    };
    HostTable::new(names.iter().map(host).collect())
}

#[test]
fn e21_exact_beats_suffix_beats_prefix_beats_any() {
    let all = hosts(&[
        "*",
        "a.*",
        "a.b.*",
        "*.test",
        "*.b.test",
        "A.b.Test",
        "a.b.test:8080",
        "*z.*",
    ]);
    for (authority, expected) in [
        ("a.b.test", "A.b.Test"),
        ("a.b.test:8080", "a.b.test:8080"),
        ("a.b.test:9090", "a.b.*"),
        ("x.b.test", "*.b.test"),
        (".b.test", "*.test"),
        ("b.test", "*.test"),
        (".test", "*"),
        ("a.c.test", "*.test"),
        ("a.org", "a.*"),
        ("a.b.org", "a.b.*"),
        ("a.b.", "a.*"),
        ("a.", "*"),
        ("", "*"),
        ("c.org", "*"),
        ("xz.*", "*z.*"),
    ] {
        assert_eq!(
            all.find(authority).map(|host| &*host.hostname),
            Some(expected),
            "{authority}"
        );
    }
    assert!(hosts(&["a.test", "*.b.test", "c.*"]).find("d.test").is_none());
}

#[test]
fn of_two_hosts_with_one_name_the_first_counts() {
    for name in ["a.test", "*.test", "a.*", "*"] {
        let twice = hosts(&["x.test", name, name]);
        let first = &twice.hosts()[1];
        assert!(
            twice.find("a.test").is_some_and(|host| Arc::ptr_eq(host, first)),
            "{name}"
        );
    }
}

#[test]
fn a_table_without_hosts_finds_none() {
    assert!(hosts(&[]).find("a.test").is_none());
}

#[test]
fn tables_of_hosts_are_equal_when_the_hosts_are() {
    assert_eq!(hosts(&["a", "b"]), hosts(&["a", "b"]));
    assert_ne!(hosts(&["a", "b"]), hosts(&["a"]));
}
