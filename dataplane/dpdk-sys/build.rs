//! Finds libdpdk, compiles the shim of inline functions and generates the bindings.
//!
//! Everything about the installation is asked of pkg-config and the headers: no list of drivers
//! (they are plugins, loaded when EAL starts) and no CPU of the build machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const OLDEST: &str = "22.11";

/// The functions called, besides the shim's; types and constants follow from them.
const FUNCTIONS: &[&str] = &[
    "rte_dev_(event_callback_(register|unregister)|probe|remove)",
    "rte_eal_(alarm_set|get_runtime_dir|init|remote_launch|wait_lcore)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|default_mac_addr_set|get_port_by_name)",
    "rte_eth_dev_(info_get|rx_offload_name|socket_id|start|stop|tx_offload_name)",
    "rte_eth_(allmulticast_enable|macaddr_get|promiscuous_(enable|disable)|stats_get)",
    "rte_eth_[rt]x_queue_setup",
    "rte_hash_(add_key|create|free|lookup_bulk)",
    "rte_mempool_avail_count",
    "rte_pktmbuf_(free_bulk|pool_create_by_ops)",
    "rte_strerror",
    "shim_.*",
];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim.c");
    println!("cargo:rerun-if-changed=shim.h");
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let library = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(false)
        .env_metadata(true)
        .probe("libdpdk")
        // One sentence: what pkg-config itself says is either the same or about its own variables.
        .map_err(|_| {
            format!(
                "DPDK {OLDEST} or newer was not found by pkg-config: install `libdpdk-dev` (Debian: \
                 apt-get install libdpdk-dev dpdk-dev clang libclang-dev pkg-config)"
            )
        })?;
    println!("cargo:version={}", library.version);
    println!("cargo:rustc-env=DPDK_VERSION={}", library.version);
    compile_shim(&library.include_paths);
    generate_bindings(&library.include_paths)?;
    link(&library);
    Ok(())
}

/// What both compilers need; the include is what DPDK's own pkg-config file demands.
fn common_flags() -> Vec<&'static str> {
    let mut flags = vec!["-D_GNU_SOURCE", "-include", "rte_config.h"];
    // DPDK's inline functions use these instructions unconditionally on x86-64; they are the
    // minimum of the library itself, so a machine without them cannot run it anyway.
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        flags.push("-msse4.2");
    }
    flags
}

fn compile_shim(include_paths: &[PathBuf]) {
    let mut shim = cc::Build::new();
    shim.file("shim.c").std("gnu11").opt_level(2);
    // System headers: their warnings are not ours to fix.
    for path in include_paths {
        shim.flag("-isystem").flag(path);
    }
    for flag in common_flags() {
        shim.flag(flag);
    }
    shim.compile("portgate_dpdk_shim");
}

fn generate_bindings(include_paths: &[PathBuf]) -> Result<(), String> {
    let mut bindings = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(common_flags())
        .clang_args(include_paths.iter().map(|path| include_flag(path)))
        .rust_edition(bindgen::RustEdition::Edition2024)
        .prepend_enum_name(false)
        .generate_comments(false)
        .derive_default(true)
        .layout_tests(true)
        // Mirrored by hand in src/lib.rs: from 24.11 its fields hide in anonymous unions.
        .blocklist_type("rte_mbuf(__bindgen.*)?")
        .opaque_type("rte_(mempool|device|hash)")
        // Packed and aligned at once, which Rust cannot express; nothing used contains them.
        .opaque_type("rte_arp_ipv4|rte_arp_hdr|rte_l2tpv2_combined_msg_hdr|rte_gtp_psc_.*")
        .allowlist_var(
            "RTE_(HASH_LOOKUP_BULK_MAX|MAX_ETHPORTS|MAX_LCORE|PKTMBUF_HEADROOM)|shim_.*",
        );
    for function in FUNCTIONS {
        bindings = bindings.allowlist_function(function);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    bindings
        .generate()
        .map_err(|error| {
            format!(
                "bindgen could not read DPDK's headers (Debian: apt-get install clang \
                 libclang-dev): {error}"
            )
        })?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|error| format!("the bindings could not be written: {error}"))
}

fn include_flag(path: &Path) -> String {
    format!("-isystem{}", path.display())
}

/// Names every library that pkg-config lists; the linker keeps only those that are called
/// (rustc links with `--as-needed`).
fn link(library: &pkg_config::Library) {
    for path in &library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for name in &library.libs {
        println!("cargo:rustc-link-lib=dylib={name}");
    }
}
