//! The server's strings.

use std::ptr;

use valkey_module::raw;

use super::api;

/// The bytes of a string that the server owns.
///
/// # Safety
/// `string` is valid, and not changed or freed while the slice lives.
pub(crate) unsafe fn bytes<'a>(string: *const raw::RedisModuleString) -> &'a [u8] {
    let mut length = 0_usize;
    // SAFETY: by the contract of this function.
    let start = unsafe { api!(RedisModule_StringPtrLen)(string, &raw mut length) };
    if start.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: the server gives the start and the length of one allocation that lives as long as the string.
    unsafe { std::slice::from_raw_parts(start.cast(), length) }
}

/// A string made by the module, freed with this value.
pub(crate) struct Text(*mut raw::RedisModuleString);

impl Text {
    /// A copy of `bytes`.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        // SAFETY: without a context the string is not freed behind our back; the bytes are copied.
        Self(unsafe {
            api!(RedisModule_CreateString)(ptr::null_mut(), bytes.as_ptr().cast(), bytes.len())
        })
    }

    /// Takes over a string that the server made for us.
    ///
    /// # Safety
    /// `string` is null or valid, and the caller gives up its reference.
    pub(crate) unsafe fn from_raw(string: *mut raw::RedisModuleString) -> Option<Self> {
        (!string.is_null()).then(|| Self(string))
    }

    /// The pointer, owned by this value.
    pub(crate) fn raw(&self) -> *mut raw::RedisModuleString {
        self.0
    }

    /// The content.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the string lives as long as `self` and nobody else changes it.
        unsafe { bytes(self.0) }
    }

    /// A further reference, to be given away.
    pub(crate) fn share(&self) -> *mut raw::RedisModuleString {
        // SAFETY: the string is valid; without a context only its count is raised.
        unsafe { api!(RedisModule_RetainString)(ptr::null_mut(), self.0) };
        self.0
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: this value holds one reference, given up here.
        unsafe { api!(RedisModule_FreeString)(ptr::null_mut(), self.0) };
    }
}
