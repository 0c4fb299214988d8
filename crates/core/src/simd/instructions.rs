//! Test of the instructions in the tiles' loops. `objdump` reads them from the test's own binary.
//!
//! The compiler may replace an intrinsic by slower instructions with the same result, or keep the sums of a tile in
//! memory, which a test of results cannot find. The code is read and not executed, so the test covers the instruction
//! sets that this machine lacks too.

use super::Simd;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::{self, Avx512};
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::tile::{Tile, VECTORS};
#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::int32x4_t;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256i, __m512i};
use std::collections::HashMap;
use std::ffi::OsString;
use std::process::Command;

/// A tile, and what its loops must contain.
struct Expected {
    /// Symbol of a function that is one tile.
    symbol: &'static str,
    /// Address of the function. It keeps the function in the binary.
    address: *const (),
    /// Rows of the tile.
    rows: usize,
    /// Start of the name of the multiplication instruction.
    instruction: &'static str,
    /// Starts of the names of the instructions that it replaces.
    replaced: &'static [&'static str],
}

/// Defines a function that is one tile of `$rows` rows, and returns what its loops must contain. The function has all
/// features of the set's kernels: with fewer the compiler may choose other instructions than in the kernels.
macro_rules! expected {
    (avx2, $($tile:tt)+) => {
        expected!(@ Avx2<false>, "avx2,fma", $($tile)+)
    };
    (avx_vnni, $($tile:tt)+) => {
        expected!(@ Avx2<true>, "avx2,fma,avxvnni", $($tile)+)
    };
    (avx512, $($tile:tt)+) => {
        expected!(@ Avx512<{ avx512::BASE }>, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl", $($tile)+)
    };
    (avx512_vnni, $($tile:tt)+) => {
        expected!(@ Avx512<{ avx512::VNNI }>, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", $($tile)+)
    };
    (avx512_bf16, $($tile:tt)+) => {
        expected!(
            @ Avx512<{ avx512::BF16 }>,
            "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16", $($tile)+
        )
    };
    (neon, $($tile:tt)+) => {
        expected!(@ Neon<2>, "neon", $($tile)+)
    };
    (neon_dotprod, $($tile:tt)+) => {
        expected!(@ Neon<4>, "neon,dotprod", $($tile)+)
    };
    (neon_i8mm, $($tile:tt)+) => {
        expected!(@ Neon<8>, "neon,i8mm", $($tile)+)
    };
    (@ $vector:ty, $features:literal, group_int8 of $rows:literal rows, $($names:tt)+) => {
        expected!(@@ $vector, $features, group_int8 of $rows rows, [scales: (*const f32, usize)], $($names)+)
    };
    (@ $vector:ty, $features:literal, $tile:ident of $rows:literal rows, $($names:tt)+) => {
        expected!(@@ $vector, $features, $tile of $rows rows, [], $($names)+)
    };
    (@@ $vector:ty, $features:literal, $tile:ident of $rows:literal rows, [$($further:ident: $type:ty)?],
     $sum:ty, $symbol:literal, $instruction:expr) => {{
        #[unsafe(export_name = $symbol)]
        #[target_feature(enable = $features)]
        unsafe fn function(sums: &mut [[$sum; VECTORS]; $rows], tile: &Tile $(, $further: $type)?) {
            // SAFETY: nothing calls this function.
            unsafe { <$vector as Simd>::$tile::<$rows>(sums, tile $(, $further)?) }
        }
        let (instruction, replaced) = $instruction;
        Expected {
            symbol: $symbol,
            address: function as *const (),
            rows: $rows,
            instruction,
            replaced,
        }
    }};
}

/// Start of the name of a multiplication instruction, and of those that it replaces.
type Multiplication = (&'static str, &'static [&'static str]);

/// Returns the tiles of the instruction sets of x86-64.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
fn table() -> Vec<Expected> {
    const FMA: Multiplication = ("vfmadd", &["vmulps", "vaddps"]);
    const MADD: Multiplication = ("vpmaddwd", &["vpmulld", "vpmullw", "vpmulhw"]);
    const VNNI: Multiplication = ("vpdpwssd", &["vpmaddwd", "vpaddd"]);
    const BF16: Multiplication = ("vdpbf16ps", &["vfmadd", "vmulps", "vaddps"]);
    const VNNI_BYTES: Multiplication = ("vpdpbusd", &["vpmaddwd", "vpaddd", "vpmaddubsw", "vpdpwssd"]);
    vec![
        expected!(avx2, tile_f32 of 6 rows, Avx2<false>, "tile_avx2_f32", FMA),
        expected!(avx2, tile_bf16 of 6 rows, Avx2<false>, "tile_avx2_bf16", FMA),
        expected!(avx2, tile_int16 of 6 rows, __m256i, "tile_avx2_int16", MADD),
        expected!(avx2, tile_int8 of 6 rows, __m256i, "tile_avx2_int8", MADD),
        expected!(avx_vnni, tile_int16 of 6 rows, __m256i, "tile_avx_vnni_int16", VNNI),
        expected!(avx_vnni, tile_int8 of 1 rows, __m256i, "tile_avx_vnni_int8_1", VNNI_BYTES),
        expected!(avx_vnni, tile_int8 of 6 rows, __m256i, "tile_avx_vnni_int8_6", VNNI_BYTES),
        expected!(avx512, tile_f32 of 12 rows, Avx512<{ avx512::BASE }>, "tile_avx512_f32", FMA),
        expected!(avx512, tile_bf16 of 12 rows, Avx512<{ avx512::BASE }>, "tile_avx512_bf16", FMA),
        expected!(avx512, tile_int16 of 12 rows, __m512i, "tile_avx512_int16", MADD),
        expected!(avx512, tile_int8 of 12 rows, __m512i, "tile_avx512_int8", MADD),
        expected!(avx512_vnni, tile_f32 of 12 rows, Avx512<{ avx512::VNNI }>, "tile_avx512_vnni_f32", FMA),
        expected!(avx512_vnni, tile_bf16 of 12 rows, Avx512<{ avx512::VNNI }>, "tile_avx512_vnni_bf16", FMA),
        expected!(avx512_vnni, tile_int16 of 1 rows, __m512i, "tile_avx512_vnni_int16_1", VNNI),
        expected!(avx512_vnni, tile_int16 of 7 rows, __m512i, "tile_avx512_vnni_int16_7", VNNI),
        expected!(avx512_vnni, tile_int16 of 12 rows, __m512i, "tile_avx512_vnni_int16_12", VNNI),
        expected!(avx512_vnni, group_int8 of 1 rows, Avx512<{ avx512::VNNI }>, "tile_avx512_vnni_int8_1", VNNI_BYTES),
        expected!(avx512_vnni, group_int8 of 12 rows, Avx512<{ avx512::VNNI }>, "tile_avx512_vnni_int8_12", VNNI_BYTES),
        expected!(avx512_bf16, tile_bf16 of 1 rows, Avx512<{ avx512::BF16 }>, "tile_avx512_bf16_bf16_1", BF16),
        expected!(avx512_bf16, tile_bf16 of 12 rows, Avx512<{ avx512::BF16 }>, "tile_avx512_bf16_bf16_12", BF16),
    ]
}

/// Returns the tiles of the instruction sets of 64-bit ARM.
#[cfg(target_arch = "aarch64")]
#[rustfmt::skip]
fn table() -> Vec<Expected> {
    const FMLA: Multiplication = ("fmla", &["fmul", "fadd"]);
    const SMLAL: Multiplication = ("smlal", &["smull", "mul", "mla"]);
    const SDOT: Multiplication = ("sdot", &["smlal", "smull", "sshll", "mla"]);
    const SMMLA: Multiplication = ("smmla", &["sdot", "smlal", "smull", "sshll", "mla"]);
    vec![
        expected!(neon, tile_f32 of 1 rows, Neon<2>, "tile_neon_f32_1", FMLA),
        expected!(neon, tile_f32 of 12 rows, Neon<2>, "tile_neon_f32_12", FMLA),
        expected!(neon, tile_bf16 of 12 rows, Neon<2>, "tile_neon_bf16", FMLA),
        expected!(neon, tile_int16 of 1 rows, int32x4_t, "tile_neon_int16_1", SMLAL),
        expected!(neon, tile_int16 of 12 rows, int32x4_t, "tile_neon_int16_12", SMLAL),
        expected!(neon, tile_int8 of 12 rows, int32x4_t, "tile_neon_int8", SMLAL),
        expected!(neon_dotprod, tile_f32 of 12 rows, Neon<4>, "tile_neon_dotprod_f32", FMLA),
        expected!(neon_dotprod, tile_int16 of 12 rows, int32x4_t, "tile_neon_dotprod_int16", SMLAL),
        expected!(neon_dotprod, tile_int8 of 1 rows, int32x4_t, "tile_neon_dotprod_int8_1", SDOT),
        expected!(neon_dotprod, tile_int8 of 12 rows, int32x4_t, "tile_neon_dotprod_int8_12", SDOT),
        expected!(neon_i8mm, tile_f32 of 12 rows, Neon<8>, "tile_neon_i8mm_f32", FMLA),
        expected!(neon_i8mm, tile_int16 of 12 rows, int32x4_t, "tile_neon_i8mm_int16", SMLAL),
        expected!(neon_i8mm, tile_int8 of 1 rows, int32x4_t, "tile_neon_i8mm_int8_1", SMMLA),
        expected!(neon_i8mm, tile_int8 of 11 rows, int32x4_t, "tile_neon_i8mm_int8_11", SMMLA),
        expected!(neon_i8mm, tile_int8 of 12 rows, int32x4_t, "tile_neon_i8mm_int8_12", SMMLA),
    ]
}

/// One instruction.
struct Instruction {
    address: u64,
    name: String,
    /// The operand that is an address in the code, as in a jump.
    target: Option<u64>,
}

impl Instruction {
    fn is_jump(&self) -> bool {
        if cfg!(target_arch = "aarch64") {
            self.name == "b" || ["b.", "cb", "tb"].iter().any(|start| self.name.starts_with(start))
        } else {
            self.name.starts_with('j')
        }
    }

    fn is_call(&self) -> bool {
        self.name == if cfg!(target_arch = "aarch64") { "bl" } else { "call" }
    }
}

/// The instructions of each function, by the function's first address, and the first address of each symbol.
struct Disassembly {
    functions: HashMap<u64, Vec<Instruction>>,
    symbols: HashMap<String, u64>,
}

/// Reads the output of `objdump -d`.
fn parse(text: &str) -> Disassembly {
    let (mut functions, mut symbols) = (HashMap::<u64, Vec<Instruction>>::new(), HashMap::new());
    let mut start = 0;
    for line in text.lines() {
        if let Some((address, symbol)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            start = u64::from_str_radix(address, 16).unwrap();
            symbols.insert(symbol.to_owned(), start);
        } else if let Some((address, code)) = line.split_once(":\t") {
            // A prefix such as `{vex}` selects an encoding and is no part of the name.
            let mut words = code.split_whitespace().skip_while(|word| word.starts_with('{'));
            let Some(name) = words.next() else { continue };
            // An address in the code is the last operand, and its symbol follows it.
            let words: Vec<&str> = words.take_while(|word| !matches!(*word, "#" | "//")).collect();
            let address_of = |words: &[&str]| match words {
                [.., address, symbol] if symbol.starts_with('<') => u64::from_str_radix(address, 16).ok(),
                _ => None,
            };
            functions.entry(start).or_default().push(Instruction {
                address: u64::from_str_radix(address.trim(), 16).unwrap(),
                name: name.to_owned(),
                target: address_of(&words),
            });
        }
    }
    Disassembly { functions, symbols }
}

/// Returns the loops of a function that contain no other loop.
fn innermost_loops(function: &[Instruction]) -> Vec<&[Instruction]> {
    let loops: Vec<(usize, usize)> = function
        .iter()
        .enumerate()
        .filter(|(_, instruction)| instruction.is_jump())
        .filter_map(|(last, instruction)| {
            let first = function[..=last]
                .iter()
                .position(|i| Some(i.address) == instruction.target)?;
            Some((first, last))
        })
        .collect();
    let contains = |a: (usize, usize), b: (usize, usize)| a != b && a.0 <= b.0 && b.1 <= a.1;
    loops
        .iter()
        .filter(|outer| !loops.iter().any(|inner| contains(**outer, *inner)))
        .map(|(first, last)| &function[*first..=*last])
        .collect()
}

impl Disassembly {
    /// Returns the named function and the functions that it calls or jumps to.
    fn with_callees(&self, symbol: &str) -> Vec<&[Instruction]> {
        let start = self.symbols.get(symbol).unwrap_or_else(|| panic!("no symbol {symbol}"));
        let function = &self.functions[start];
        let targets = function
            .iter()
            .filter(|i| i.is_call() || i.is_jump())
            .filter_map(|i| i.target);
        let callees = targets
            .filter(|target| target != start)
            .filter_map(|target| self.functions.get(&target));
        std::iter::once(function).chain(callees).map(Vec::as_slice).collect()
    }
}

/// Disassembles this binary; `None` if there is no objdump.
fn disassemble() -> Option<Disassembly> {
    let binary = std::env::current_exe().unwrap();
    // An emulated processor needs the objdump of its cross compiler (scripts/test_emulated.py).
    let objdump = std::env::var_os("OBJDUMP").unwrap_or_else(|| OsString::from("objdump"));
    let syntax: &[&str] = if cfg!(target_arch = "x86_64") {
        &["-M", "intel"]
    } else {
        &[]
    };
    let output = Command::new(objdump)
        .args(["-d", "--no-show-raw-insn"])
        .args(syntax)
        .arg(&binary)
        .output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(parse(&String::from_utf8(output.stdout).unwrap()))
        }
        Err(error) => {
            eprintln!("skipped: objdump, which reads the instructions, does not start: {error}");
            None
        }
    }
}

fn count(code: &[Instruction], start: &str) -> usize {
    code.iter().filter(|i| i.name.starts_with(start)).count()
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no binary to read")]
fn loops_of_tiles_contain_the_instruction_of_their_set() {
    let table = table();
    let Some(disassembly) = disassemble() else { return };
    for Expected {
        symbol,
        address,
        rows,
        instruction,
        replaced,
    } in table
    {
        std::hint::black_box(address);
        let mut loops = 0;
        for code in disassembly.with_callees(symbol).into_iter().flat_map(innermost_loops) {
            let multiplications = count(code, instruction);
            let others: Vec<_> = replaced.iter().map(|start| (*start, count(code, start))).collect();
            if multiplications == 0 && others.iter().all(|(_, count)| *count == 0) {
                continue;
            }
            loops += 1;
            // With fewer, the loop over the rows is not unrolled, and the sums are in memory.
            let allowed = multiplications >= VECTORS * rows && others.iter().all(|(_, count)| *count == 0);
            assert!(
                allowed,
                "{symbol}: a loop over {rows} rows has {multiplications} {instruction} and {others:?}"
            );
        }
        assert!(loops > 0, "{symbol}: no loop has {instruction}");
    }
}

/// The loops of matrix products contain loops of vector instructions, so the whole function is read.
#[test]
#[cfg(target_arch = "x86_64")]
#[cfg_attr(miri, ignore = "an interpreter has no binary to read")]
fn matrix_products_consist_of_matrix_instructions() {
    type Level = Avx512<{ avx512::AMX }>;
    type Sums<'a> = &'a mut [[Level; VECTORS]];
    #[unsafe(export_name = "matrix_amx_int8")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn int8(sums: Sums<'_>, first_rows: &[usize], tile: &Tile, scales: *const f32) {
        // SAFETY: nothing calls this function.
        unsafe { Level::matrix_int8(sums, (first_rows, 16), tile, (scales, 1), 1) }
    }
    #[unsafe(export_name = "matrix_amx_int16")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn int16(sums: Sums<'_>, first_rows: &[usize], tile: &Tile, scales: *const f32) {
        // SAFETY: nothing calls this function.
        unsafe { Level::matrix_int16(sums.chunks_exact_mut(16), first_rows, 0, tile, scales, scales) }
    }
    #[unsafe(export_name = "matrix_amx_bf16")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn bf16(sums: Sums<'_>, second: Sums<'_>, tile: &Tile) {
        // SAFETY: nothing calls this function.
        unsafe { Level::matrix_bf16(sums, Some((16, second)), tile, true) }
    }
    std::hint::black_box((int8 as *const (), int16 as *const (), bf16 as *const ()));
    let Some(disassembly) = disassemble() else { return };
    for (symbol, instructions) in [
        ("matrix_amx_int8", &["tdpbssd"][..]),
        ("matrix_amx_int16", &["tdpbssd", "tdpbsud", "tdpbusd", "tdpbuud"]),
        ("matrix_amx_bf16", &["tdpbf16ps"]),
    ] {
        let code = disassembly.with_callees(symbol);
        let total = |start| code.iter().map(|code| count(code, start)).sum::<usize>();
        for instruction in instructions {
            assert!(total(instruction) > 0, "{symbol} has no {instruction}");
        }
        for replaced in ["vpdp", "vpmadd", "vpmull", "vdpbf16ps"] {
            assert_eq!(total(replaced), 0, "{symbol} has {replaced}");
        }
    }
}
