//! The inner loops over eight atoms at a time: the first look at distances, and ranks of keys.
//!
//! Twice: for any processor, and for those with AVX2. Both give the same, bit for bit.

use wide::{f32x8, i32x8};

/// Distances are computed for so many atoms at a time.
pub const LANES: usize = 8;
/// Keys are ranked so many at a time.
pub const RANKS: usize = 16;

/// Atoms beside each other in a column of bins.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Block {
    /// Position by component, in units of the reach.
    pub points: [[f32; LANES]; 3],
    pub keys: [i32; LANES],
}

/// A block without atoms: infinitely far away.
pub const EMPTY: Block = Block { points: [[f32::INFINITY; LANES]; 3], keys: [-1; LANES] };

/// From where to look, and how far.
#[derive(Clone, Copy)]
pub struct Sight {
    pub from: [f32; 3],
    /// A squared distance beyond this is surely beyond the cutoff.
    pub far: f32,
    /// One up to this is surely within.
    pub sure: f32,
}

/// What a look at a block found.
pub struct Seen {
    /// The keys within sight, in front.
    pub keys: [i32; LANES],
    pub count: usize,
    /// Not 0 where it is not sure that all these are within the cutoff.
    pub doubt: u32,
}

#[inline]
pub fn look(block: &Block, sight: &Sight) -> Seen {
    let mut squared = f32x8::ZERO;
    for (component, from) in block.points.iter().zip(sight.from) {
        let d = f32x8::new(*component) - f32x8::splat(from);
        squared += d * d;
    }
    let near = squared.simd_le(f32x8::splat(sight.far)).to_bitmask();
    let sure = squared.simd_le(f32x8::splat(sight.sure)).to_bitmask();
    let lanes = &HIT_LANES[near as usize & 255];
    let keys = lanes.map(|lane| block.keys[lane as usize % LANES]);
    Seen { keys, count: near.count_ones() as usize, doubt: near & !sure }
}

/// How many of the keys are smaller than each of these.
#[inline]
pub fn rank(keys: &[i32], of: &[i32; RANKS]) -> [i32; RANKS] {
    let (halves, _) = of.as_chunks::<LANES>();
    let mut ranks = [i32x8::ZERO; 2];
    for &key in keys {
        for (rank, half) in ranks.iter_mut().zip(halves) {
            // A mask is -1 where it is true.
            *rank -= i32x8::new(*half).simd_gt(i32x8::splat(key));
        }
    }
    let [low, high] = ranks.map(i32x8::to_array);
    std::array::from_fn(|k| if k < LANES { low[k] } else { high[k - LANES] })
}

#[cfg(target_arch = "x86_64")]
pub mod avx2 {
    use std::arch::x86_64::{
        __m256i, _CMP_LE_OQ, _mm256_add_ps, _mm256_cmp_ps, _mm256_cmpgt_epi32, _mm256_movemask_ps, _mm256_mul_ps,
        _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
        _mm256_sub_epi32, _mm256_sub_ps,
    };

    use super::{Block, HIT_LANES, RANKS, Seen, Sight};

    #[inline]
    #[target_feature(enable = "avx2,popcnt")]
    pub fn look(block: &Block, sight: &Sight) -> Seen {
        let mut squared = _mm256_setzero_ps();
        for (component, from) in block.points.iter().zip(sight.from) {
            let d = _mm256_sub_ps(bytemuck::cast(*component), _mm256_set1_ps(from));
            squared = _mm256_add_ps(squared, _mm256_mul_ps(d, d));
        }
        let within = |limit| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(squared, _mm256_set1_ps(limit))) as u32;
        let (near, sure) = (within(sight.far), within(sight.sure));
        let lanes = bytemuck::cast(HIT_LANES[near as usize & 255]);
        let keys = bytemuck::cast(_mm256_permutevar8x32_epi32(bytemuck::cast(block.keys), lanes));
        Seen { keys, count: near.count_ones() as usize, doubt: near & !sure }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn rank(keys: &[i32], of: &[i32; RANKS]) -> [i32; RANKS] {
        let halves: [__m256i; 2] = bytemuck::cast(*of);
        let mut ranks = [_mm256_setzero_si256(); 2];
        for &key in keys {
            let key = _mm256_set1_epi32(key);
            for (rank, half) in ranks.iter_mut().zip(halves) {
                *rank = _mm256_sub_epi32(*rank, _mm256_cmpgt_epi32(half, key));
            }
        }
        bytemuck::cast(ranks)
    }
}

/// The bits that are set in each number, in front.
static HIT_LANES: [[u32; LANES]; 256] = {
    let mut table = [[0; LANES]; 256];
    let mut bits = 0;
    while bits < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < LANES {
            if bits >> lane & 1 == 1 {
                table[bits][count] = lane as u32;
                count += 1;
            }
            lane += 1;
        }
        bits += 1;
    }
    table
};

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use multiversion::multiversion;
    use multiversion::target::match_target;

    use super::*;
    use crate::random::Random;

    type Answers = ([i32; LANES], usize, u32, [i32; RANKS]);

    /// By AVX2, where there is that.
    #[multiversion(targets("x86_64+avx2+popcnt"))]
    fn answers(block: &Block, sight: &Sight, keys: &[i32], of: &[i32; RANKS]) -> Answers {
        let (seen, ranks) = match_target! {
            "x86_64+avx2+popcnt" => (avx2::look(block, sight), avx2::rank(keys, of)),
            _ => (look(block, sight), rank(keys, of)),
        };
        (seen.keys, seen.count, seen.doubt, ranks)
    }

    #[test]
    fn answers_are_the_same_on_any_processor() {
        let mut source = Random::new(9, 0);
        let mut random = || (source.uniform() * f64::from(1 << 24)) as i32;
        for _ in 0..1000 {
            let mut point = || [0; LANES].map(|_: i32| random() as f32 * 1e-7);
            let points = [point(), point(), point()];
            let block = Block { points, keys: [0; LANES].map(|_: i32| random()) };
            let sight = Sight { from: points.map(|component| component[2]), far: 0.9, sure: 0.5 };
            let keys: Vec<i32> = (0..random() % 40).map(|_| random()).collect();
            let of = [0; RANKS].map(|_: i32| random());
            let seen = look(&block, &sight);
            assert_eq!(answers(&block, &sight, &keys, &of), (seen.keys, seen.count, seen.doubt, rank(&keys, &of)));
        }
    }
}
