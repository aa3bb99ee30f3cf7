//! QR codes for a terminal: two modules a character, black on white whatever the terminal's colors are.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Columns of a usual terminal.
const WIDTH: usize = 80;

/// The code, or `None` where it would not fit into 80 columns. Bech32 text is best given in upper case, which QR
/// codes store in fewer modules.
pub(super) fn draw(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    // Scanners want a margin of 4 modules; 2 work and leave room for long invoices.
    if code.width() + 4 > WIDTH {
        return None;
    }
    let plain = code.render::<Dense1x2>().quiet_zone(false).build();
    let margin = " ".repeat(code.width() + 4);
    let mut lines = vec![margin.clone()];
    lines.extend(plain.lines().map(|line| format!("  {line}  ")));
    lines.push(margin);
    Some(lines.iter().map(|line| format!("\x1b[38;5;16;48;5;231m{line}\x1b[0m\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_equal_lines_and_fits() {
        let drawn = draw("BITCOIN:BC1QAR0SRRR7XFKVY5L643LYDNW9RE59GTZZWF5MDQ").unwrap();
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{drawn}");
        assert!(drawn.chars().filter(|c| "█▀▄".contains(*c)).count() > 100);
        assert!(draw(&"A".repeat(300)).is_some(), "an ordinary invoice fits");
        assert!(draw(&"A".repeat(2000)).is_none());
    }
}
