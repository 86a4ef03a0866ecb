use serde_json::json;

use super::*;

#[test]
fn a_name_that_would_blur_a_line_of_a_log_or_listing_is_refused_by_name() {
    let metadata = |key: &str, text: &str| match key {
        "name" => json!({ "metadata": { "name": text, "namespace": "shop" } }),
        _ => json!({ "metadata": { "name": "web", "namespace": text } }),
    };
    for key in ["name", "namespace"] {
        for odd in ["a\nb", "a b", "a/b", "a\u{85}b", "\u{1b}[2J"] {
            let refused = object_name(ObjectKind::Service, &metadata(key, odd)).unwrap_err();
            let shown = refused.to_string();
            assert!(
                shown.contains(&format!("metadata.{key} is ")) && !shown.contains(char::is_control),
                "{shown:?}"
            );
        }
        // Not a name that Kubernetes takes, but one that can be told from others.
        assert!(object_name(ObjectKind::Service, &metadata(key, "größe")).is_ok());
    }
}

#[test]
fn a_port_name_of_more_than_a_word_is_skipped() {
    let service = json!({
        "metadata": { "name": "web" },
        "spec": {
            "clusterIP": "10.96.0.10",
            "ports": [{ "name": "a\nb", "port": 80 }, { "name": "b", "port": 81 }]
        }
    });
    let mut warnings = Vec::new();
    let (_, converted) = object(ObjectKind::Service, &service, &mut warnings).unwrap();
    let Some(ClusterObject::Service(service)) = converted else {
        panic!("a service: {converted:?}");
    };
    assert_eq!(service.ports.len(), 1);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.starts_with("spec.ports[0].name is"));
}
