//! How RocksDB is set up.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DataBlockIndexType, LogLevel, Options, WriteBufferManager,
};

use super::RocksOptions;
use crate::Family;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Files that are kept open. Each costs a file descriptor, which sockets need too.
const OPEN_FILES_MAX: i32 = 384;
/// Write-ahead log beyond which families are flushed; it is read again after a crash.
const WAL_BYTES_MAX: u64 = 128 * MIB as u64;

/// Memory, shared out: what is not yet in files counts against the cache too.
pub(super) struct Memory {
    cache: Cache,
    write_buffers: WriteBufferManager,
    write_buffer_bytes: usize,
}

impl Memory {
    /// Shares out the memory that the options allow.
    fn new(options: RocksOptions) -> Self {
        let cache_bytes = usize::try_from(options.cache_mib).unwrap_or(usize::MAX / MIB).max(8);
        let cache_bytes = cache_bytes.saturating_mul(MIB);
        let buffers_bytes = (cache_bytes / 4).clamp(16 * MIB, 128 * MIB);
        let cache = Cache::new_hyper_clock_cache(cache_bytes, 0);
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            buffers_bytes,
            false,
            cache.clone(),
        );
        Self { cache, write_buffers, write_buffer_bytes: (buffers_bytes / 2).min(64 * MIB) }
    }
}

/// Returns the options of the database, and of its families.
pub(super) fn all(options: RocksOptions) -> (Options, Vec<ColumnFamilyDescriptor>) {
    let memory = Memory::new(options);
    let families = Family::ALL
        .map(|family| ColumnFamilyDescriptor::new(column_family(family), of(family, &memory)));
    (database(&memory), families.into())
}

/// Returns the name of a family in RocksDB, which insists on one called `default`.
pub(super) const fn column_family(family: Family) -> &'static str {
    match family {
        Family::Main => "default",
        other => other.name(),
    }
}

/// Returns the options of the whole database.
fn database(memory: &Memory) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // After a power cut the log ends in whatever the disk had written of the last commit, which
    // nobody was told of. Everything before was synced, and is checked by its checksum.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    options.set_max_background_jobs(i32::try_from(cores).unwrap_or(4).clamp(2, 4));
    options.set_bytes_per_sync(MIB as u64);
    options.set_write_buffer_manager(&memory.write_buffers);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 * MIB);
    options.set_log_level(LogLevel::Warn);
    options
}

/// Returns the options of one family.
fn of(family: Family, memory: &Memory) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(memory.write_buffer_bytes);
    options.set_max_write_buffer_number(3);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);

    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.cache);
    blocks.set_format_version(6);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    match family {
        Family::Main => {
            blocks.set_block_size(4 * KIB);
            blocks.set_bloom_filter(10.0, false);
            blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.02);
        }
        Family::Index => {
            // Neighbours are read together: larger blocks, with keys packed closer.
            blocks.set_block_size(8 * KIB);
            blocks.set_bloom_filter(10.0, false);
            blocks.set_block_restart_interval(32);
        }
        Family::Events => {
            blocks.set_block_size(16 * KIB);
            blocks.set_bloom_filter(10.0, false);
            options.set_compression_type(DBCompressionType::Zstd);
            // JSON of one kind repeats itself from event to event: a dictionary per file.
            options.set_bottommost_compression_options(-14, 3, 0, 16 * KIB as i32, true);
            options.set_bottommost_zstd_max_train_bytes(1_600 * KIB as i32, true);
        }
        Family::Log => {
            blocks.set_block_size(16 * KIB);
        }
    }
    options.set_block_based_table_factory(&blocks);
    options
}
