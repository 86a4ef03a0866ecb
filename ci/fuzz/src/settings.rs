//! The settings of all programs, and the devices that they name.

use settings::Device;

/// Runs an input: a file of settings, or (behind a zero byte) a device.
pub fn run(bytes: &[u8]) {
    let (is_device, text) = match bytes.strip_prefix(b"\0") {
        Some(device) => (true, device),
        None => (false, bytes),
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if is_device {
        return device(text);
    }
    match settings::load_str(text) {
        Ok(settings) => settings.links.iter().for_each(|link| {
            device(&link.device.to_string());
        }),
        Err(error) => {
            let sentence = error.to_string();
            assert!(
                !sentence.is_empty() && !sentence.contains('\n'),
                "one sentence: {sentence}"
            );
        }
    }
}

fn device(text: &str) {
    if let Ok(device) = text.parse::<Device>() {
        let written = device.to_string();
        let again = written.parse::<Device>();
        assert_eq!(again, Ok(device), "{written}");
    }
}
