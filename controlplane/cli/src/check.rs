//! `portgate check`.

use std::io::Write;
use std::path::Path;

use portgate_controlplane::model::{ClusterObject, ObjectKind};
use portgate_controlplane::{Warning, judge, load_dir};
use serde_json::json;
use settings::Settings;

use crate::args::CheckOptions;
use crate::failure::Failure;
use crate::manifests;
use crate::words::counted;

/// Names every problem; none is success.
pub(crate) fn run(
    config: &Path,
    options: &CheckOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let found = check(config, options);
    if json {
        let problem =
            |warning: &Warning| json!({"subject": warning.subject, "message": warning.message});
        let problems: Vec<_> = found.problems.iter().map(problem).collect();
        writeln!(
            out,
            "{}",
            json!({"ok": problems.is_empty(), "problems": problems})
        )?;
    } else {
        for line in &found.fine {
            writeln!(out, "{line}")?;
        }
        let mut errors = std::io::stderr().lock();
        for problem in &found.problems {
            // Whoever closed standard error still has the exit status.
            let _ = writeln!(errors, "{problem}");
        }
    }
    if found.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Problems)
    }
}

#[derive(Default)]
struct Found {
    problems: Vec<Warning>,
    /// What is in order, a line each.
    fine: Vec<String>,
}

fn check(config: &Path, options: &CheckOptions) -> Found {
    let mut found = Found::default();
    let settings = match settings::load(config) {
        Ok(settings) => settings,
        Err(error) => {
            found.problems.push(about_settings(config, error));
            return found;
        }
    };
    found.fine.push(format!(
        "{}: right ({}, {})",
        config.display(),
        counted(settings.links.len(), "link"),
        counted(usize::from(settings.workers.count), "worker"),
    ));
    if let Some(directory) = manifests::directory(&settings, options.manifests.as_deref()) {
        check_manifests(&settings, &directory, &mut found);
    }
    found
}

fn check_manifests(settings: &Settings, directory: &Path, found: &mut Found) {
    let shown = directory.display();
    let report = match load_dir(directory) {
        Ok(report) => report,
        Err(error) => {
            found.problems.push(Warning {
                subject: shown.to_string(),
                message: format!("cannot be read: {}", error.cause),
            });
            return;
        }
    };
    let count = |kind: ObjectKind| {
        let of_kind = |object: &&ClusterObject| object.kind() == kind;
        counted(report.objects.iter().filter(of_kind).count(), kind.name())
    };
    let counts = ObjectKind::ALL.map(count).join(", ");
    let (_, warnings) = judge(&settings.gateway, report.objects);
    let problems = report.warnings.len() + warnings.len();
    let verdict = match problems {
        0 => "right".to_owned(),
        _ => counted(problems, "problem"),
    };
    found.fine.push(format!("{shown}: {verdict} ({counts})"));
    found.problems.extend(report.warnings);
    found.problems.extend(warnings);
}

/// The file, or the variable, stands in the subject; the error need not name it again.
fn about_settings(config: &Path, error: settings::Error) -> Warning {
    let mut subject = config.display().to_string();
    let message = match error {
        settings::Error::File {
            line: Some(line),
            cause,
            ..
        } => format!("line {line}: {cause}"),
        settings::Error::File { cause, .. } => cause.to_string(),
        settings::Error::Variable { name, cause } => {
            subject = format!("environment variable {name}");
            cause.to_string()
        }
        settings::Error::Read { cause, .. } => format!("cannot be read: {cause}"),
        other => other.to_string(),
    };
    Warning { subject, message }
}
