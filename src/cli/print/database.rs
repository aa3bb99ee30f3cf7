//! `db check`

use super::layout::Pairs;
use super::safe;
use crate::api::types::DbReport;

pub(in crate::cli) fn database(report: &DbReport) -> String {
    let mut pairs = Pairs::default();
    for check in &report.checks {
        pairs.add(&check.name, format!("{}: {}", if check.ok { "ok" } else { "WRONG" }, safe(&check.says)));
        for wrong in &check.wrong {
            pairs.add("", safe(wrong));
        }
        if let Some(advice) = &check.advice {
            pairs.add("", format!("→ {}", safe(advice)));
        }
    }
    let verdict =
        if report.ok { "nothing is wrong with it" } else { "something is wrong with it; nothing was changed" };
    format!("{}\n{}: {verdict}\n", pairs.draw(), safe(&report.database))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::DbCheck;

    #[test]
    fn a_report_says_what_is_wrong_and_what_to_do() {
        let check = |name: &str, wrong: &[&str]| DbCheck {
            name: name.into(),
            ok: wrong.is_empty(),
            says: "3 things".into(),
            wrong: wrong.iter().map(|wrong| (*wrong).to_owned()).collect(),
            advice: (!wrong.is_empty()).then(|| "keep it".to_owned()),
        };
        let checks = vec![check("file", &[]), check("wallet", &["it is \x1b[2J wrong"])];
        let text = database(&DbReport { ok: false, database: "/data/lightnode.db".into(), checks });
        assert_eq!(
            text,
            "\
file    ok: 3 things
wallet  WRONG: 3 things
        it is \\u{1b}[2J wrong
        → keep it

/data/lightnode.db: something is wrong with it; nothing was changed
"
        );
    }
}
