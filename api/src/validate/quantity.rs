//! Amounts of Kubernetes: `10Gi`, `500m`, `2`.

use super::{Check, quoted};
use crate::crds::Quantity;

/// Value of an amount in thousandths of its unit (so that `500m` of a processor is 500), rounded up.
///
/// `None` if it is no amount, is negative, or exceeds 2^127.
pub fn quantity_value(quantity: &Quantity) -> Option<u128> {
    let text = match quantity {
        Quantity::Int(number) => return u128::try_from(*number).ok()?.checked_mul(1_000),
        Quantity::Text(text) => text.as_str(),
    };
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 9 {
        return None;
    }
    let digits = |digits: &str| {
        if digits.is_empty() {
            Some(0)
        } else {
            digits.parse::<u128>().ok()
        }
    };
    let (numerator, denominator) = scale(suffix)?;
    let parts = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let amount = digits(whole)?
        .checked_mul(parts)?
        .checked_add(digits(fraction)?)?;
    let amount = amount.checked_mul(numerator)?.checked_mul(1_000)?;
    Some(amount.div_ceil(parts.checked_mul(denominator)?))
}

/// What a suffix multiplies by, as a fraction.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1_u128 << (10 * power), 1));
    let decimal = |power: u32| Some((1_000_u128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "P" => decimal(5),
        "E" => decimal(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?;
            let ten = 10_u128.checked_pow(u32::from(power.unsigned_abs()))?;
            Some(if power < 0 { (1, ten) } else { (ten, 1) })
        }
    }
}

/// The size of a volume: a positive whole number with an optional suffix.
pub(super) fn check_volume(check: &mut Check, field: &str, quantity: Option<&Quantity>) {
    let Some(quantity) = quantity else { return };
    let text = quantity.to_string();
    let whole = !text.contains('.') && quantity_value(quantity).is_some_and(|value| value >= 1_000);
    if !whole {
        check.refuse(
            field,
            quoted(&text),
            "a positive whole number with an optional suffix, such as 20Gi",
            "round it up to a whole number",
        );
    }
}

/// Amounts in a resource list: not negative, and a request not above its limit.
pub(super) fn check_resources(
    check: &mut Check,
    field: &str,
    resources: Option<&crate::crds::shared::ResourceRequirements>,
) {
    let Some(resources) = resources else { return };
    for (list, amounts) in [
        ("limits", &resources.limits),
        ("requests", &resources.requests),
    ] {
        for (name, amount) in amounts {
            if quantity_value(amount).is_none() {
                check.refuse(
                    format!("{field}.{list}.{name}"),
                    quoted(&amount.to_string()),
                    "an amount such as 4Gi or 500m",
                    "write a number with an optional suffix",
                );
            }
        }
    }
    for (name, request) in &resources.requests {
        let limit = resources.limits.get(name);
        if let (Some(request_value), Some(limit_value)) =
            (quantity_value(request), limit.and_then(quantity_value))
            && request_value > limit_value
        {
            check.refuse(
                format!("{field}.requests.{name}"),
                quoted(&request.to_string()),
                &format!(
                    "no more than the limit {}",
                    limit.map(ToString::to_string).unwrap_or_default()
                ),
                "lower the request or raise the limit",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<u128> {
        quantity_value(&Quantity::Text(text.to_owned()))
    }

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        assert_eq!(quantity_value(&Quantity::Int(2)), Some(2_000));
        assert_eq!(text("2"), Some(2_000));
        assert_eq!(text("500m"), Some(500));
        assert_eq!(text("1.5"), Some(1_500));
        assert_eq!(text("1.5Gi"), Some(1_610_612_736_000));
        assert_eq!(text("20Gi"), Some(21_474_836_480_000));
        assert_eq!(text("1G"), Some(1_000_000_000_000));
        assert_eq!(text("1e3"), Some(1_000_000));
        assert_eq!(text("1E"), Some(1_000_000_000_000_000_000_000));
        assert_eq!(text("1n"), Some(1), "rounded up");
    }

    #[test]
    fn what_is_no_amount_has_no_value() {
        for wrong in [
            "",
            ".",
            "-1",
            "Gi",
            "1GB",
            "1 Gi",
            "1e99",
            "1.2.3",
            "99999999999999999999",
        ] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert_eq!(quantity_value(&Quantity::Int(-1)), None);
    }
}
