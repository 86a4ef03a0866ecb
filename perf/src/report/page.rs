//! What is on the page.

use super::section::{Page, Section};
use super::{controlplane, drawings, plots, tables};
use crate::Error;
use crate::set::Set;

/// The page of a set; `history` are records of other commits.
pub(super) fn page(set: &Set, history: &Set) -> Result<Page, Error> {
    let mut sections = Vec::new();
    sections.extend(tables::machine(set));
    sections.extend(tables::table_of_figures(set));
    sections.extend(tables::peers(set));
    sections.extend(tables::beside_capsule(set));
    sections.extend(drawings::throughput(set)?);
    sections.extend(drawings::ratios(set)?);
    if !set.curves.is_empty() {
        let plot = plots::latency(&set.curves)?;
        sections.push(Section::plot(
            "Latency",
            "From the intended time of sending.",
            plot,
        ));
    }
    sections.extend(tables::traffic(set));
    sections.extend(controlplane::section(set));
    sections.extend(drawings::by_commit(set, history)?);
    sections.extend(tables::everything(set));
    Ok(Page {
        title: "Portgate: what was measured".to_owned(),
        sections,
    })
}

#[cfg(test)]
mod tests {
    use super::super::section::Body;
    use super::*;
    use crate::record::Record;
    use crate::set::tests::line;

    fn set(records: &[(&str, &str, usize, f64)]) -> Set {
        let mut set = Set::default();
        for (subject, figure, flows, nanos) in records {
            let mut record: Record = serde_json::from_str(&line(*flows, *nanos)).unwrap();
            record.subject = (*subject).to_owned();
            record.figure = Some((*figure).to_owned());
            record.host.commit = format!("c{nanos}");
            if figure.contains("v6") {
                record.family = 6;
            }
            set.records.push(record);
        }
        set
    }

    fn rows<'a>(page: &'a Page, title: &str) -> &'a [Vec<String>] {
        let section = page.sections.iter().find(|section| section.title == title);
        match &section.unwrap().body {
            Body::Table { rows, .. } => rows,
            Body::Plot(_) => panic!("{title} is a plot"),
        }
    }

    #[test]
    fn figures_are_held_against_what_was_asked_for() {
        let set = set(&[
            ("engine", "established-v4-65k", 65_536, 15.0),
            ("engine", "established-v4-1m", 1_000_000, 30.5),
            ("engine", "established-v6-65k", 65_536, 40.0),
            ("kernel, nftables", "", 65_536, 1500.0),
            ("capsule, combinators", "", 1, 34.0),
            ("engine beside capsule", "", 1000, 17.0),
        ]);
        let page = page(&set, &Set::default()).unwrap();
        let rows_of = rows(&page, "Figures");
        let met: Vec<_> = rows_of.iter().map(|row| row[4].as_str()).collect();
        assert_eq!(met, ["yes", "at best", "no"], "{rows_of:?}");
        assert_eq!(rows_of[0][6], "2.5", "15 by a floor `nat` of 6");
        let titles: Vec<_> = page
            .sections
            .iter()
            .map(|section| section.title.as_str())
            .collect();
        for title in [
            "Machine",
            "Throughput by flows",
            "Against floors and peers",
            "All records",
        ] {
            assert!(titles.contains(&title), "{titles:?}");
        }
        let peers = rows(&page, "The kernel, and the whole gateway beside it");
        assert!(peers[0][0].starts_with("kernel, nftables: established"));
        assert_eq!(peers.len(), 1, "capsule has a table of its own");
        let capsule = rows(&page, "The crate capsule");
        assert_eq!(
            (capsule[0][0].as_str(), capsule[0][6].as_str()),
            ("capsule, combinators", "5.7")
        );
        assert_eq!(capsule[1][0], "engine beside capsule");
        let Some(Section {
            body: Body::Plot(svg),
            ..
        }) = page
            .sections
            .iter()
            .find(|section| section.title == "Against floors and peers")
        else {
            panic!("no plot");
        };
        assert!(
            svg.contains("kernel, nftables, 65,536") && svg.contains("100.00"),
            "{svg}"
        );
    }

    #[test]
    fn the_course_over_commits_needs_two() {
        let mut before = set(&[("engine", "", 65_536, 50.0)]);
        let mut now = set(&[("engine", "", 65_536, 15.0)]);
        for record in before.records.iter_mut().chain(&mut now.records) {
            record.mbufs = 32_768;
        }
        let has = |page: &Page| {
            page.sections
                .iter()
                .any(|section| section.title == "By commit")
        };
        assert!(has(&page(&now, &before).unwrap()));
        assert!(!has(&page(&now, &Set::default()).unwrap()));
    }
}
