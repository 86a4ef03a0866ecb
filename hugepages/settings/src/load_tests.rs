use super::*;

fn message(toml: &str) -> String {
    load_str(toml).unwrap_err().to_string()
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
        "`region.flows` is string \"many\"; it must be a whole number"
    );
    assert_eq!(
        message("[region]\nflows = 1.5"),
        "`region.flows` is floating point `1.5`; it must be a whole number"
    );
    assert_eq!(
        message("[workers]\ncores = [1, true]"),
        "`workers.cores[1]` is boolean `true`; it must be a whole number"
    );
    assert_eq!(
        message("[gateway]\nmasquerade_all = 1"),
        "`gateway.masquerade_all` is integer `1`; it must be true or false"
    );
    let link = "[[links]]\nname = \"a\"\ndevice = \"af_xdp:a\"\n";
    assert_eq!(
        message(&format!("{link}vlan = 1.5")),
        "`links[0].vlan` is floating point `1.5`; it must be a whole number"
    );
    assert!(message(&format!("{link}addresses = [[]]")).starts_with("`links[0].addresses[0]` is"));
    assert_eq!(
        message("gateway = 3"),
        "`gateway` is integer `3`; it must be a table"
    );
    assert_eq!(
        message("[links]\nname = \"a\""),
        "`links` is map; it must be a list"
    );
    assert_eq!(
        message("[gateway]\naddresses = [[\"10.0.0.1\"]]"),
        "`gateway.addresses[0]` is sequence; it must be a string"
    );
    assert!(message("[gateway]\naddresses = 5").starts_with("`gateway.addresses` is integer `5`"));
    assert!(message("[gateway]\nnode_name = []").starts_with("`gateway.node_name` is sequence"));
}

#[test]
fn broken_toml_is_one_sentence_with_the_place() {
    let message = message("[gateway\nmode = 1");
    assert!(
        message.starts_with("the configuration is not valid TOML: "),
        "{message}"
    );
    assert!(message.contains("line 1"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn the_environment_comes_after_the_file() {
    let settings = load_with(
        "[region]\nflows = 4096\n[gateway]\nzone = \"a\"",
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
    let message = |key: &str, value: &str| load_with("", &[(key, value)]).unwrap_err().to_string();
    assert_eq!(
        message("PORTGATE__REGION__FLOW", "1"),
        "`region.flow` is no key of the configuration (did you mean `region.flows`?)"
    );
    assert_eq!(
        message("PORTGATE__REGION__FLOWS", "lots"),
        "`region.flows` is string \"lots\"; it must be a whole number"
    );
    assert_eq!(
        message("PORTGATE__GATEWAY__MASQUERADE_ALL", "yes"),
        "`gateway.masquerade_all` is string \"yes\"; it must be true or false"
    );
    assert_eq!(
        message("PORTGATE__WORKERS__CORES", "1,x"),
        "`workers.cores` is string \"x\"; it must be a whole number"
    );
}

#[test]
fn a_file_is_named_in_its_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portgate.toml");
    let absent = load(&path).unwrap_err().to_string();
    assert!(absent.starts_with(&format!(
        "cannot read the configuration {}: ",
        path.display()
    )));
    std::fs::write(&path, "[region]\nflows = 1\n").unwrap();
    assert_eq!(
        load(&path).unwrap_err().to_string(),
        format!(
            "{}: `region.flows` is 1; it must be 1024 to 67108864",
            path.display()
        )
    );
    std::fs::write(&path, "[gateway]\n").unwrap();
    load(&path).unwrap();
}
