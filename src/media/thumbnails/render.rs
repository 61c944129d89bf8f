//! Decoding a picture, making it smaller, encoding it again.

use std::{fs::File, io::BufReader, path::Path};

use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageReader, Limits, codecs, imageops::FilterType,
    metadata::Orientation,
};

use crate::{
    error::{MediaError, Result},
    remote::Thumbnail,
    thumbnails::{Bounded, Fit},
};

/// Most pixels of a picture that is decoded.
const PIXELS_MAX: u64 = 50_000_000;

/// Most memory that decoding may take, in bytes.
const MEMORY_MAX: u64 = 512 * 1024 * 1024;

/// Largest thumbnail, in bytes.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Quality of JPEG, of 100.
const QUALITY: u8 = 80;

/// A smaller picture.
pub(super) struct Rendered {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
    pub(super) extension: &'static str,
}

/// Makes a smaller picture of a file. `None` where it is small enough. What cameras and people have
/// written into the file besides the picture is not taken over.
pub(super) fn render(path: &Path, form: Thumbnail) -> Result<Option<Rendered>> {
    let reader = ImageReader::new(BufReader::new(File::open(path)?)).with_guessed_format()?;
    let mut decoder = reader.into_decoder().map_err(no_picture)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width).saturating_mul(u64::from(height)) > PIXELS_MAX {
        return Err(MediaError::TooLarge { bytes_max: PIXELS_MAX });
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY_MAX);
    decoder.set_limits(limits).map_err(no_picture)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let small = width <= form.width && height <= form.height;
    if small && orientation == Orientation::NoTransforms {
        return Ok(None);
    }
    let mut picture = DynamicImage::from_decoder(decoder).map_err(no_picture)?;
    picture.apply_orientation(orientation);
    encode(&resized(picture, form)).map(Some)
}

/// The picture in its new size. It never grows.
fn resized(picture: DynamicImage, form: Thumbnail) -> DynamicImage {
    let (width, height) = (form.width.min(picture.width()), form.height.min(picture.height()));
    match form.fit {
        Fit::Scale if picture.width() <= form.width && picture.height() <= form.height => picture,
        Fit::Scale => picture.resize(form.width, form.height, FilterType::CatmullRom),
        Fit::Crop => picture.resize_to_fill(width, height, FilterType::CatmullRom),
    }
}

/// PNG where something shines through, else JPEG.
fn encode(picture: &DynamicImage) -> Result<Rendered> {
    let mut out = Bounded { bytes: Vec::new(), bytes_max: BYTES_MAX };
    let (content_type, extension) = if picture.color().has_alpha() {
        let encoder = codecs::png::PngEncoder::new(&mut out);
        picture.to_rgba8().write_with_encoder(encoder).map_err(no_picture)?;
        ("image/png", "png")
    } else {
        let encoder = codecs::jpeg::JpegEncoder::new_with_quality(&mut out, QUALITY);
        picture.to_rgb8().write_with_encoder(encoder).map_err(no_picture)?;
        ("image/jpeg", "jpg")
    };
    Ok(Rendered { bytes: out.bytes, content_type, extension })
}

fn no_picture(error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(_) => MediaError::TooLarge { bytes_max: MEMORY_MAX },
        other => MediaError::NoPicture { why: other.to_string() },
    }
}
