//! Kubernetes quantities as bytes.

use meridian_api::{crds::Quantity, validate::quantity_value};

/// The number of bytes that a quantity such as `4Gi`, `512M` or `1e9` means; `None` if it is none or does not fit.
#[must_use]
pub fn bytes(quantity: &str) -> Option<i64> {
    let thousandths = quantity_value(&Quantity::Text(quantity.to_owned()))?;
    i64::try_from(thousandths / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_rounded_down_to_bytes() {
        let cases = [
            ("4Gi", Some(4 << 30)),
            ("1.5Ki", Some(1536)),
            ("1500m", Some(1)),
            ("8Ei", None),
            ("5GB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
