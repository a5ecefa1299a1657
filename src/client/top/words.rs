//! Numbers, sizes and times in few characters.

use crate::wire::snapshot::Bounded;

/// The first characters tell nodes apart.
pub fn short(id: &str) -> String {
    id.chars().take(6).collect()
}

/// Whole up to 9,999, then with a letter.
pub fn count(number: f64) -> String {
    match number {
        n if n < 10.0 && n.fract() >= 0.05 => format!("{n:.1}"),
        n if n < 9_999.5 => format!("{n:.0}"),
        n if n < 99_950.0 => format!("{:.1}k", n / 1e3),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n => format!("{:.1}M", n / 1e6),
    }
}

/// With a binary unit.
pub fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (number as f64, 0);
    while size >= 1_000.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1_024.0, unit + 1);
    }
    let digits = usize::from(size < 10.0 && unit > 0);
    format!("{size:.digits$} {}", units[unit])
}

/// What there may be at most, if there is a bound.
pub fn of(bounded: Bounded) -> String {
    if bounded.max == 0 { String::new() } else { format!("of {}", bytes(bounded.max)) }
}

/// A time in microseconds.
pub fn time(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e4 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// A long time.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_their_columns() {
        let shown = [0.0, 0.26, 9.9, 9_999.0, 12_345.0, 99_949.0, 999_000.0, 21_400_000.0].map(count);
        assert_eq!(shown, ["0", "0.3", "9.9", "9999", "12.3k", "99.9k", "999k", "21.4M"]);
        assert_eq!([0, 999, 1_024, 65_530, 1 << 40].map(bytes), ["0 B", "999 B", "1.0 KiB", "64 KiB", "1.0 TiB"]);
        assert_eq!([0.0, 999.0, 1_500.0, 142_000.0, 2.5e6].map(time), ["0 µs", "999 µs", "1.5 ms", "142 ms", "2.5 s"]);
        assert_eq!([59, 60, 3_661, 273_600].map(age), ["59 s", "1 min", "1 h 1 min", "3 d 4 h"]);
    }
}
