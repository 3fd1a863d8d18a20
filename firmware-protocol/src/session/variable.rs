//! Variables: their types in the application describe, their values on the wire (docs/protocol.md).

/// Type of a variable, as the describe numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VariableType {
    /// 1.
    Bool,
    /// 2: 32 bits, signed.
    Int,
    /// 4.
    String,
    /// 9: IEEE 754, 64 bits.
    Double,
}

/// Value of a variable.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A 32-bit integer.
    Int(i32),
    /// Text; bytes that are no UTF-8 are replaced.
    String(String),
    /// A double.
    Double(f64),
}

impl VariableType {
    /// The type with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Bool),
            2 => Some(Self::Int),
            4 => Some(Self::String),
            9 => Some(Self::Double),
            _ => None,
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Bool => 1,
            Self::Int => 2,
            Self::String => 4,
            Self::Double => 9,
        }
    }

    /// The value in a response payload, or `None` if its length is not this type's. The response carries no type, so the describe must say it.
    pub fn decode(self, payload: &[u8]) -> Option<Value> {
        Some(match self {
            Self::Bool => Value::Bool(<[u8; 1]>::try_from(payload).ok()? != [0]),
            Self::Int => Value::Int(i32::from_be_bytes(payload.try_into().ok()?)),
            Self::Double => Value::Double(f64::from_le_bytes(payload.try_into().ok()?)),
            Self::String => Value::String(String::from_utf8_lossy(payload).into_owned()),
        })
    }
}

impl Value {
    /// The payload a device sends: integers big-endian, doubles little-endian.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Int(value) => value.to_be_bytes().to_vec(),
            Self::Double(value) => value.to_le_bytes().to_vec(),
            Self::String(value) => value.as_bytes().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_values_decode_and_wrong_lengths_do_not() {
        assert_eq!(VariableType::Double.decode(&[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]), Some(Value::Double(1.5)));
        assert_eq!(VariableType::Int.decode(&[0xff, 0xff, 0xff, 0xd6]), Some(Value::Int(-42)));
        assert_eq!(VariableType::Bool.decode(&[1]), Some(Value::Bool(true)));
        assert_eq!(VariableType::String.decode(b""), Some(Value::String(String::new())));
        for (kind, len) in [(VariableType::Double, 4), (VariableType::Int, 3), (VariableType::Bool, 0), (VariableType::Bool, 2)] {
            assert_eq!(kind.decode(&vec![0; len]), None);
        }
        for number in 0..=255 {
            assert!(VariableType::from_number(number).is_none_or(|kind| u64::from(kind.number()) == number));
        }
    }
}
