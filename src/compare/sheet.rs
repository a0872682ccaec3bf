//! Pictures of two models beside each other.

use crate::pipeline::pixels::Rgb8;

/// Pixels between pictures.
const GAP: usize = 8;
/// How much a difference is strengthened, around a middle grey: what nobody would see can be seen.
const STRENGTHENED: i32 = 4;

/// A row for each pair: the first model's picture, the second's, and their difference, grey where there is none. All pictures
/// have the size of the first; none for no pictures.
pub fn side_by_side(pairs: &[(&Rgb8, &Rgb8)]) -> Option<Rgb8> {
    let (first, _) = pairs.first()?;
    let (width, height) = (first.width as usize, first.height as usize);
    let (across, down) = (3 * width + 4 * GAP, pairs.len() * (height + GAP) + GAP);
    let mut data = vec![u8::MAX; across * down * 3];
    for (index, (one, other)) in pairs.iter().enumerate() {
        let difference = difference(one, other);
        for (column, picture) in [&one.data, &other.data, &difference]
            .into_iter()
            .enumerate()
        {
            let left = GAP + column * (width + GAP);
            for (y, row) in picture.chunks_exact(width * 3).enumerate() {
                let top = GAP + index * (height + GAP) + y;
                data[(top * across + left) * 3..][..row.len()].copy_from_slice(row);
            }
        }
    }
    Some(Rgb8 {
        width: u32::try_from(across).ok()?,
        height: u32::try_from(down).ok()?,
        data,
    })
}

fn difference(one: &Rgb8, other: &Rgb8) -> Vec<u8> {
    one.data
        .iter()
        .zip(&other.data)
        .map(|(&a, &b)| {
            let strengthened = 128 + STRENGTHENED * (i32::from(b) - i32::from(a));
            u8::try_from(strengthened.clamp(0, 255)).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_both_pictures_and_what_differs() {
        let picture = |value: u8| Rgb8 {
            width: 2,
            height: 1,
            data: vec![value; 6],
        };
        let (one, other) = (picture(10), picture(20));
        let sheet = side_by_side(&[(&one, &other), (&one, &one)]).unwrap();
        assert_eq!((sheet.width, sheet.height), (3 * 2 + 4 * 8, 2 * 9 + 8));
        let pixel = |x: usize, y: usize| sheet.data[(y * sheet.width as usize + x) * 3];
        assert_eq!(
            [pixel(0, 0), pixel(8, 8), pixel(18, 8), pixel(28, 8)],
            [255, 10, 20, 168]
        );
        assert_eq!([pixel(8, 17), pixel(18, 17), pixel(28, 17)], [10, 10, 128]);
        assert!(side_by_side(&[]).is_none());
    }
}
