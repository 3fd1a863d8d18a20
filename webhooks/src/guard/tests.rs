use proptest::prelude::*;

use super::*;

/// One host or encoding a line: what becomes of it, a tab, and the address. `{09}` stands for the byte 9.
const CORPUS: &str = include_str!("../../testdata/hosts.txt");

fn guard(allow: &[&str]) -> Guard {
    let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
    Guard::new(GuardConfig { allow, own_names: vec!["Cloud.Example.com.".to_owned(), "8.8.4.4".to_owned()], ..GuardConfig::default() })
}

fn plain(text: &str) -> String {
    let mut parts = text.split('{');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).filter(|_| part.get(2..3) == Some("}")).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => plain.extend([char::from(byte).to_string().as_str(), &part[3..]]),
            None => plain.extend(["{", part]),
        }
    }
    plain
}

fn verdict(guard: &Guard, text: &str) -> String {
    let Ok(url) = Url::parse(text) else { return "unreadable".to_owned() };
    let refused = match guard.check_url(&url) {
        Ok(Target { host: Host::Name(_), .. }) => return "name".to_owned(),
        Ok(Target { host: Host::Address(address), port, .. }) => guard.filter(port, vec![address]).err(),
        Err(refusal) => Some(refusal),
    };
    match refused {
        None => "public".to_owned(),
        Some(Refusal::Address(range)) => range.to_string(),
        Some(Refusal::Port(_)) => "port".to_owned(),
        Some(refusal) => format!("{refusal:?}").to_ascii_lowercase(),
    }
}

#[test]
fn every_host_of_the_corpus_is_seen_through() {
    let (guard, mut count, mut wrong) = (guard(&[]), 0, Vec::new());
    for line in CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (expected, text) = line.split_once('\t').unwrap();
        let found = verdict(&guard, &plain(text));
        count += 1;
        if found != expected {
            wrong.push(format!("{text}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 300, "{count}");
}

#[test]
fn one_address_that_is_not_public_is_enough() {
    let guard = guard(&[]);
    let filter = |addresses: &[&str]| guard.filter(443, addresses.iter().map(|text| text.parse().unwrap()).collect());
    assert_eq!(filter(&["8.8.8.8", "2606:4700::1111"]).map(|kept| kept.len()), Ok(2));
    assert_eq!(filter(&["8.8.8.8", "127.0.0.1"]), Err(Refusal::Address(Range::Loopback)));
    assert_eq!(filter(&["2606:4700::1111", "::ffff:10.0.0.1"]), Err(Refusal::Address(Range::Translated)));
    assert_eq!(filter(&["8.8.8.8", "8.8.4.4"]), Err(Refusal::Own));
    assert_eq!(filter(&[]), Err(Refusal::NoAddress));
}

#[test]
fn what_the_operator_allows_may_be_reached() {
    let guard = guard(&["192.168.1.0/24", "10.0.0.5:81", "fd00::/8"]);
    for (text, expected) in [
        ("http://192.168.1.7/", "public"),
        ("http://192.168.1.7:8123/", "public"),
        ("http://3232235783/", "public"),
        ("http://192.168.1.7:22/", "port"),
        ("http://192.168.2.7/", "private"),
        ("http://10.0.0.5:81/", "public"),
        ("http://10.0.0.5/", "private"),
        ("http://10.0.0.6:81/", "private"),
        ("http://8.8.8.8:81/", "port"),
        ("http://name.example:81/", "name"),
        ("http://[fd12::1]/", "public"),
        ("http://[::ffff:192.168.1.7]/", "translated"),
        ("http://[64:ff9b::192.168.1.7]/", "translated"),
    ] {
        assert_eq!(verdict(&guard, text), expected, "{text}");
    }
    assert_eq!(
        guard.filter(81, vec!["8.8.8.8".parse().unwrap()]),
        Err(Refusal::Port(81)),
        "a name may not borrow a port that is allowed elsewhere"
    );
}

#[test]
fn services_that_hand_out_credentials_cannot_be_allowed() {
    let guard = guard(&["0.0.0.0/0", "::/0"]);
    for text in ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "[fd20:ce::254]"] {
        assert_eq!(verdict(&guard, &format!("http://{text}/")), "metadata", "{text}");
    }
    for (text, range) in
        [("0.0.0.0", "unspecified"), ("224.0.0.1", "multicast"), ("[::]", "unspecified"), ("[::ffff:7f00:1]", "translated")]
    {
        assert_eq!(verdict(&guard, &format!("http://{text}/")), range);
    }
    assert_eq!(verdict(&guard, "http://127.0.0.1:9000/"), "public");
}

#[test]
fn what_the_operator_denies_outranks_what_is_allowed() {
    let config = GuardConfig {
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        deny: vec!["10.1.0.0/16".parse().unwrap(), "8.8.8.0/24".parse().unwrap()],
        ..GuardConfig::default()
    };
    let guard = Guard::new(config);
    for (text, expected) in [("10.0.0.1", "public"), ("10.1.0.1", "denied"), ("8.8.8.8", "denied"), ("8.8.9.8", "public")] {
        assert_eq!(verdict(&guard, &format!("https://{text}/")), expected);
    }
}

#[test]
fn plain_http_can_be_switched_off() {
    let guard = Guard::new(GuardConfig { plain_http: false, ..GuardConfig::default() });
    assert_eq!(verdict(&guard, "http://name.example/"), "plainhttp");
    assert_eq!(verdict(&guard, "https://name.example/"), "name");
}

/// One number of an address, in the base of somebody's choice.
fn number(value: u32, base: u8) -> String {
    match base {
        0 => value.to_string(),
        1 => format!("0x{value:x}"),
        2 => format!("0X{value:08X}"),
        _ => format!("0{value:o}"),
    }
}

proptest! {
    #[test]
    fn an_address_is_the_same_however_it_is_written(address: u32, parts in 1_u32..=4, bases: [u8; 4], dot: bool) {
        let guard = guard(&[]);
        let mut host: Vec<String> = (0..parts - 1).map(|part| number(address >> (24 - 8 * part) & 0xff, bases[part as usize] % 4)).collect();
        let rest = address & (u32::MAX >> (8 * (parts - 1)));
        host.push(number(rest, bases[3] % 4));
        let written = format!("http://{}{}/", host.join("."), if dot { "." } else { "" });
        let plain = format!("http://{}/", std::net::Ipv4Addr::from_bits(address));
        prop_assert_eq!(verdict(&guard, &written), verdict(&guard, &plain), "{}", written);
    }

    #[test]
    fn no_text_makes_it_panic(text: String, host in "[0-9a-fxA-FX:.%@\\[\\]\\\\/-]{0,40}") {
        let guard = guard(&["10.0.0.0/8"]);
        verdict(&guard, &text);
        verdict(&guard, &format!("http://{host}/"));
        let _ = (text.parse::<Allowed>(), host.parse::<Allowed>());
    }

    #[test]
    fn no_ipv4_address_inside_of_another_form_is_public(address: u32) {
        let (guard, [a, b]) = (guard(&[]), [address >> 16, address & 0xffff]);
        for form in ["::", "::ffff:", "64:ff9b::", "64:ff9b:1::"] {
            prop_assert_ne!(verdict(&guard, &format!("http://[{form}{a:x}:{b:x}]/")), "public");
        }
        prop_assert_eq!(verdict(&guard, &format!("http://[2002:{a:x}:{b:x}::]/")), "6to4");
    }
}
