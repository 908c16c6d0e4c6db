// A module with functions and debug information, for the tests. Build it with:
// rustc --target wasm32-wasip1 --crate-type cdylib -C panic=abort -C opt-level=1 \
//   -C debuginfo=line-tables-only --remap-path-prefix=$PWD= lines.rs
#![no_std]

static mut INPUT: [u8; 4096] = [0; 4096];

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

#[no_mangle]
pub extern "C" fn gophersnake_alloc(size: u32) -> *mut u8 {
    if size > 4096 { core::ptr::null_mut() } else { &raw mut INPUT as *mut u8 }
}

#[no_mangle]
pub extern "C" fn gophersnake_call(at: *mut u8, size: u32) -> u64 {
    check(at);
    ((at as u64) << 32) | size as u64
}

/// Traps if the input is the number 1.
#[inline(never)]
fn check(at: *mut u8) {
    if unsafe { *at } == 1 {
        fail()
    }
}

#[inline(never)]
fn fail() -> ! {
    core::arch::wasm32::unreachable()
}
