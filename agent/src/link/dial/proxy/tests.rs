use super::*;

fn hub(text: &str) -> HubAddress {
    text.parse().unwrap()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn shown(chosen: &Result<Option<Proxy>, String>) -> String {
    match chosen {
        Ok(Some(proxy)) => proxy.to_string(),
        Ok(None) => "none".to_owned(),
        Err(error) => error.clone(),
    }
}

#[test]
fn what_is_said_for_the_hub_wins_over_what_is_said_for_every_program() {
    let settings = |flag: Option<&str>, variable: Option<&str>| ProxySettings {
        url: flag.map(str::to_owned),
        environment: Environment {
            url: variable.map(str::to_owned),
            except: None,
        },
        ..ProxySettings::default()
    };
    let file = |url: Option<&str>| Files {
        url: url.map(str::to_owned),
        ..Files::default()
    };
    for (flag, written, variable, expected) in [
        (None, None, None, "none"),
        (None, None, Some("http://v:1"), "http://v:1"),
        (Some(" "), None, Some("http://v:1"), "http://v:1"),
        (None, Some("http://f:1"), Some("http://v:1"), "http://f:1"),
        (Some("http://s:1"), Some("http://f:1"), None, "http://s:1"),
        (
            Some("direct"),
            Some("http://f:1"),
            Some("http://v:1"),
            "none",
        ),
        (None, Some("direct"), Some("http://v:1"), "none"),
    ] {
        let chosen = settings(flag, variable).choose(&hub("h:8444"), file(written));
        assert_eq!(shown(&chosen), expected);
    }
}

#[test]
fn variables_are_read_as_other_programs_read_them() {
    let read = |set: &[(&str, &str)]| {
        Environment::read(|name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    };
    let both = read(&[
        ("HTTPS_PROXY", "http://a"),
        ("https_proxy", "http://b"),
        ("no_proxy", "x"),
    ]);
    assert_eq!((both.url, both.except), (some("http://a"), some("x")));
    let lower = read(&[
        ("HTTPS_PROXY", " "),
        ("https_proxy", "http://b"),
        ("all_proxy", "http://c"),
    ]);
    assert_eq!(lower.url, some("http://b"));
    // It speaks of plain HTTP, and no hub does.
    assert_eq!(read(&[("HTTP_PROXY", "http://a")]), Environment::default());
}

#[test]
fn a_url_says_where_the_proxy_is_and_who_we_are_to_it() {
    for (url, expected, credentials) in [
        ("http://proxy:3128", "http://proxy:3128", None),
        ("proxy:3128/", "http://proxy:3128", None),
        ("http://proxy", "http://proxy:80", None),
        ("https://proxy", "https://proxy:443", None),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128", None),
        (
            "http://Aladdin:open%20sesame@p:1",
            "http://p:1",
            some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
    ] {
        let proxy = parse(url, "the test").unwrap();
        assert_eq!(proxy.to_string(), expected);
        let header = proxy
            .credentials
            .map(|header| header.to_str().unwrap().to_owned());
        assert_eq!(header, credentials, "{url}");
    }
}

#[test]
fn what_is_no_proxy_is_told_without_its_password() {
    for bad in [
        "socks5://u:s3cr3t@p:1",
        "http://",
        "http://u:s3cr3t%zz@p:1",
        "http://u:s3cr3t@p:port",
        "http://u:s3 cr3t@p",
    ] {
        let error = parse(bad, "the setting --hub-proxy").unwrap_err();
        assert!(
            error.contains("--hub-proxy") && error.contains("expected http://HOST:PORT"),
            "{error}"
        );
        assert!(!error.contains("cr3t"), "{error}");
    }
    for open in ["http://u:p%@p:1", "http://u:p%4@p:1", "http://u:%ff@p:1"] {
        let error = parse(open, "").unwrap_err();
        assert!(error.contains("%-signs"), "{open}: {error}");
    }
    let proxy = parse("http://u:s3cr3t@p:1", "").unwrap();
    let all = format!("{proxy:?} {proxy} {:?}", proxy.credentials);
    assert!(
        !all.contains("s3cr3t") && !all.contains("dTpzM2NyM3Q"),
        "{all}"
    );
}

#[test]
fn a_flag_that_names_no_proxy_is_refused_before_anything_is_dialled() {
    let with = |url: Option<&str>| ProxySettings {
        url: url.map(str::to_owned),
        ..ProxySettings::default()
    };
    for good in [None, Some(""), Some(" direct "), Some("http://p:1")] {
        assert_eq!(with(good).check(), Ok(()), "{good:?}");
    }
    let error = with(Some("ftp://u:s3cr3t@x:1")).check().unwrap_err();
    assert!(
        error.contains("--hub-proxy") && error.contains("`ftp`"),
        "{error}"
    );
    assert!(!error.contains("s3cr3t"), "{error}");
}

#[test]
fn exceptions_are_names_addresses_and_ranges() {
    for (host, list, expected) in [
        ("hub.example.com:8444", "example.com", true),
        ("hub.example.com:8444", ".example.com", true),
        ("hub.example.com:8444", "*.example.com", true),
        ("HUB.example.com:8444", "other, hub.EXAMPLE.com", true),
        ("hub.example.com:8444", "ample.com", false),
        ("hub.example.com:8444", "hub.example.com:8444", true),
        ("hub.example.com:8444", "hub.example.com:443", false),
        ("hub.example.com:8444", "*", true),
        ("hub.example.com:8444", "", false),
        ("hub.example.com:8444", "10.0.0.0/8", false),
        ("10.1.2.3:8444", "10.0.0.0/8", true),
        ("10.1.2.3:8444", "10.0.0.0/16", false),
        ("10.1.2.3:8444", "10.1.2.3", true),
        ("10.1.2.3:8444", "3", false),
        ("10.1.2.3:8444", "0.0.0.0/0", true),
        ("[fd00::1]:8444", "fd00::/8", true),
        ("[fd00::1]:8444", "[fd00::1]:8444", true),
        ("[fd00::1]:8444", "0.0.0.0/0", false),
    ] {
        assert_eq!(excepted(&hub(host), list), expected, "{host} and {list}");
    }
}

#[tokio::test]
async fn files_are_read_at_each_dial_and_the_name_goes_with_its_password() {
    let folder = std::env::temp_dir().join(format!("meridian-proxy-{}", uuid::Uuid::new_v4()));
    let settings = ProxySettings {
        files: Some(folder.clone()),
        ..ProxySettings::default()
    };
    let asked = async || settings.for_hub(&hub("h:8444")).await;
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    assert_eq!(asked().await, Ok(None), "there is no such folder yet");
    std::fs::create_dir(&folder).unwrap();
    write("url", "https://proxy:3129\n");
    write("username", "Aladdin\n");
    assert!(asked().await.unwrap_err().contains("no `password`"));
    write("password", "open sesame\n");
    write("ca.crt", "PEM");
    let proxy = asked().await.unwrap().unwrap();
    assert_eq!(
        proxy.credentials.unwrap(),
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    assert_eq!((proxy.tls, proxy.roots_pem), (true, some("PEM")));
    write("no-proxy", "h");
    assert_eq!(asked().await, Ok(None));
    std::fs::remove_dir_all(&folder).unwrap();
}
