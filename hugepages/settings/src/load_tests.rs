use super::*;

fn message(toml: &str) -> String {
    load_str(toml).unwrap_err().to_string()
}

/// As [`load`], of a file with these bytes and with these variables alone; in sentences the file is `FILE`.
fn load_file(bytes: &[u8], variables: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portgate.toml");
    std::fs::write(&path, bytes).unwrap();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    load_with(&path, variables.iter().map(owned).collect()).map_err(|error| {
        let sentence = error.to_string();
        sentence.replace(path.to_str().unwrap(), "FILE")
    })
}

#[test]
fn every_class_of_error_is_one_sentence_with_file_line_and_key() {
    let link = "[[links]]\nname = \"a\"\ndevice = \"af_packet:a\"\n";
    let table: &[(&str, &str)] = &[
        // What is no TOML.
        (
            "[region]\n\nflows = 65_536x",
            "line 3: `region.flows` is 65_536x; it must be a number, or stand in quotes if it is text",
        ),
        (
            "[region]\nflows = 99999999999999999999",
            "line 2: `region.flows` is 99999999999999999999; it must be less than 2^63",
        ),
        (
            "[gateway]\naddresses = [\n  \"10.0.0.1\",\n  10.0.0.2,\n]",
            "line 4: `gateway.addresses` is not valid TOML: text must stand in quotes",
        ),
        (
            "[region]\nflows =",
            "line 2: `region.flows` is not valid TOML: a value is missing",
        ),
        (
            "[region]\nflows = # many\n",
            "line 2: `region.flows` is not valid TOML: a value is missing",
        ),
        (
            "[region]\nflows = 1_\n",
            "line 2: `region.flows` is not valid TOML: `_` may only go between digits",
        ),
        (
            "[gateway]\nmode = edge\n",
            "line 2: `gateway.mode` is not valid TOML: text must stand in quotes",
        ),
        (
            "[gateway]\nmode = \"edge\n",
            "line 2: `gateway.mode` is not valid TOML: invalid basic string, expected `\"`",
        ),
        (
            "[gateway]\nmode \"edge\"\n",
            "line 2: `gateway.mode` is not valid TOML: key with no value, expected `=`",
        ),
        (
            "mode: edge\n",
            "line 1: `mode` is not valid TOML: key with no value, expected `=`",
        ),
        (
            "[gateway]\naddresses = [\"10.0.0.1\"\n",
            "line 2: `gateway.addresses` is not valid TOML: unclosed array, expected `]`",
        ),
        (
            "[gateway]\naddresses = [\n  \"10.0.0.1\"\n  \"10.0.0.2\"\n]\n",
            "line 4: `gateway.addresses` is not valid TOML: missing comma between array elements, expected `,`",
        ),
        (
            "\n[gateway\nmode = \"edge\"",
            "line 2: `gateway` is not valid TOML: unclosed table, expected `]`",
        ),
        (
            "= 5\n",
            "line 1: not valid TOML: unquoted keys cannot be empty",
        ),
        // Twice.
        (
            "[region]\nflows = 2048\nflows = 4096",
            "line 3: `region.flows` is not valid TOML: it is there a second time",
        ),
        (
            "[region]\n[gateway]\n[region]\n",
            "line 3: `region` is not valid TOML: it is there a second time",
        ),
        // Unknown.
        (
            "[region]\n\n\nflow = 5",
            "line 4: `region.flow` is no key of the configuration (did you mean `region.flows`?)",
        ),
        (
            "region.flow = 5",
            "line 1: `region.flow` is no key of the configuration (did you mean `region.flows`?)",
        ),
        (
            "[log]\n[gatway]\nmode = \"edge\"",
            "line 2: `gatway` is no key of the configuration (did you mean `gateway`?)",
        ),
        // Of another type.
        (
            "[region]\nflows = \"many\"",
            "line 2: `region.flows` is \"many\"; it must be a whole number",
        ),
        (
            "[region]\nflows = 1e3",
            "line 2: `region.flows` is 1000.0; it must be a whole number",
        ),
        (
            "[gateway]\nmasquerade_all = 1",
            "line 2: `gateway.masquerade_all` is 1; it must be true or false",
        ),
        (
            "[gateway]\nzone = { a = 1 }",
            "line 2: `gateway.zone` is a table; it must be a string",
        ),
        (
            "[workers]\ncores = [\n1,\ntrue]",
            "line 4: `workers.cores[1]` is true; it must be a whole number",
        ),
        (
            "\ngateway = 3",
            "line 2: `gateway` is 3; it must be a table",
        ),
        (
            "[links]\nname = \"a\"",
            "line 1: `links` is a table; it must be a list: begin each entry with [[links]]",
        ),
        // Against a rule.
        (
            "[region]\nflows = -1",
            "line 2: `region.flows` is -1; it must be 1024 to 67108864",
        ),
        (
            "[gateway]\nmode = \"egde\"",
            "line 2: `gateway.mode` is \"egde\"; it must be \"edge\" or \"node\"",
        ),
        (
            "[gateway]\naddresses = [\"10.0.0.1\",\n\"10.0.0.300\"]",
            "line 3: `gateway.addresses[1]` is \"10.0.0.300\"; it must be an IPv4 or IPv6 address",
        ),
        // Missing.
        (
            "[log]\n[[links]]\nname = \"a\"",
            "line 2: `links[0].device` is missing; each entry of the list needs it",
        ),
        (
            "[log]\n[gateway]\nmode = \"node\"",
            "line 2: `gateway.node_name` is missing; gateway.mode = \"node\" needs the name of the Node that the gateway is",
        ),
    ];
    for (toml, sentence) in table {
        assert_eq!(
            load_file(toml.as_bytes(), &[]),
            Err(format!("FILE: {sentence}")),
            "for\n{toml}"
        );
    }
    let second = format!("{link}[[links]]\nname = \"b\"\ndevice = \"af_packet:b\"\nmtu = 60\n");
    let sentence = load_file(second.as_bytes(), &[]).unwrap_err();
    assert!(
        sentence.starts_with("FILE: line 7: `links[1].mtu` is 60; it must be "),
        "{sentence}"
    );
    assert_eq!(
        load_file(b"[log]\n# caf\xe9\n", &[]),
        Err("FILE: line 2: not valid TOML: it has bytes that are no UTF-8".to_owned())
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("portgate.toml");
    for (path, reason) in [
        (absent.as_path(), "No such file or directory"),
        (folder.path(), "Is a directory"),
    ] {
        let sentence = load_with(path, Variables::new()).unwrap_err().to_string();
        let start = format!("cannot read the configuration {}: {reason}", path.display());
        assert!(sentence.starts_with(&start), "{sentence}");
    }
    // Root may read what nobody else may.
    let is_root = std::fs::read("/proc/self/status").is_ok_and(|status| {
        String::from_utf8_lossy(&status)
            .lines()
            .any(|line| line.starts_with("Uid:\t0\t"))
    });
    if !is_root {
        std::fs::write(&absent, "[gateway]\n").unwrap();
        let none = std::os::unix::fs::PermissionsExt::from_mode(0o0);
        std::fs::set_permissions(&absent, none).unwrap();
        let sentence = load_with(&absent, Variables::new())
            .unwrap_err()
            .to_string();
        assert!(sentence.contains(": Permission denied"), "{sentence}");
    }
}

#[test]
fn unknown_keys_are_named_with_their_path_and_the_nearest_key() {
    assert_eq!(
        message("[region]\nflow = 5"),
        "`region.flow` is no key of the configuration (did you mean `region.flows`?)"
    );
    assert_eq!(
        message("[[links]]\nname = \"a\"\ndevice = \"af_xdp:a\"\nadresses = []"),
        "`links[0].adresses` is no key of the configuration (did you mean `links[0].addresses`?)"
    );
    assert_eq!(
        message("[gatway]"),
        "`gatway` is no key of the configuration (did you mean `gateway`?)"
    );
    assert_eq!(
        message("[prometheus]"),
        "`prometheus` is no key of the configuration"
    );
}

#[test]
fn wrong_types_name_key_and_value() {
    assert_eq!(
        message("[region]\nflows = \"many\""),
        "`region.flows` is \"many\"; it must be a whole number"
    );
    assert_eq!(
        message("[region]\nflows = 1.5"),
        "`region.flows` is 1.5; it must be a whole number"
    );
    assert_eq!(
        message("[workers]\ncores = [1, true]"),
        "`workers.cores[1]` is true; it must be a whole number"
    );
    assert_eq!(
        message("[gateway]\nmasquerade_all = 1"),
        "`gateway.masquerade_all` is 1; it must be true or false"
    );
    let link = "[[links]]\nname = \"a\"\ndevice = \"af_xdp:a\"\n";
    assert_eq!(
        message(&format!("{link}vlan = 1.5")),
        "`links[0].vlan` is 1.5; it must be a whole number"
    );
    assert!(message(&format!("{link}addresses = [[]]")).starts_with("`links[0].addresses[0]` is"));
    assert_eq!(message("gateway = 3"), "`gateway` is 3; it must be a table");
    assert_eq!(
        message("[links]\nname = \"a\""),
        "`links` is a table; it must be a list: begin each entry with [[links]]"
    );
    assert_eq!(
        message("[gateway]\naddresses = [[\"10.0.0.1\"]]"),
        "`gateway.addresses[0]` is a list; it must be a string"
    );
    assert!(message("[gateway]\naddresses = 5").starts_with("`gateway.addresses` is 5"));
    assert!(message("[gateway]\nnode_name = []").starts_with("`gateway.node_name` is a list"));
}

#[test]
fn the_environment_comes_after_the_file() {
    let settings = load_file(
        b"[region]\nflows = 4096\n[gateway]\nzone = \"a\"",
        &[
            ("PORTGATE__REGION__FLOWS", "8192"),
            ("PORTGATE__GATEWAY__MASQUERADE_ALL", "true"),
            ("PORTGATE__GATEWAY__ADDRESSES", "10.0.0.1, 2001:db8::1"),
            ("PORTGATE__GATEWAY__CLUSTER_CIDRS", ""),
            ("PORTGATE__GATEWAY__NODE_NAME", "1e3"),
            ("PORTGATE__WORKERS__CORES", "2,3"),
            ("PORTGATE_SERVICE_HOST", "10.96.0.7"),
        ],
    )
    .unwrap();
    assert_eq!(settings.region.flows, 8192);
    assert!(settings.gateway.masquerade_all);
    assert_eq!(settings.gateway.addresses.len(), 2);
    assert!(settings.gateway.cluster_cidrs.is_empty());
    assert_eq!(settings.gateway.zone.as_deref(), Some("a"));
    assert_eq!(settings.gateway.node_name.as_deref(), Some("1e3"));
    assert_eq!(settings.workers.cores, [2, 3]);
}

#[test]
fn the_environment_is_checked_like_the_file() {
    let message = |name: &str, value: &str| {
        load_file(b"[region]\nflows = 4096", &[(name, value)]).unwrap_err()
    };
    let table = [
        (
            "PORTGATE__REGION__FLOW",
            "1",
            "`region.flow` is no key of the configuration (did you mean `region.flows`?)",
        ),
        (
            "PORTGATE__REGION__FLOWS",
            "lots",
            "`region.flows` is \"lots\"; it must be a whole number",
        ),
        (
            "PORTGATE__REGION__FLOWS",
            "1",
            "`region.flows` is 1; it must be 1024 to 67108864",
        ),
        (
            "portgate__gateway__masquerade_all",
            "yes",
            "`gateway.masquerade_all` is \"yes\"; it must be true or false",
        ),
        (
            "PORTGATE__WORKERS__CORES",
            "1,x",
            "`workers.cores` is \"x\"; it must be a whole number",
        ),
        (
            "PORTGATE__GATEWAY__ADDRESSES",
            "10.0.0.1,x",
            "`gateway.addresses[1]` is \"x\"; it must be an IPv4 or IPv6 address",
        ),
    ];
    for (name, value, sentence) in table {
        assert_eq!(
            message(name, value),
            format!("environment variable {name}: {sentence}")
        );
    }
}
