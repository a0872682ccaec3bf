//! Tables of ftfy's mojibake heuristic: code pages, and the classes of characters that misread UTF-8 is made of.
//!
//! Data, not code. Source: ftfy 6.3.1 (Robyn Speer, Apache-2.0) `badness.py`, `chardata.py` and its sloppy codecs, printed by
//! `tests/golden/mojibake_tables.py` from the installed package; `tests/golden/captions.rs` holds the result to the reference.

/// A single-byte encoding that UTF-8 may have been misread as: characters of bytes 0x80 to 0xFF.
pub(super) struct CodePage {
    pub(super) upper: &'static str,
    /// ftfy's "sloppy" variant: byte 0x1A stands for U+FFFD, and lost bytes are looked for.
    pub(super) is_sloppy: bool,
    pub(super) is_macroman: bool,
}

/// Index of windows-1252 in [`CODE_PAGES`].
pub(super) const WINDOWS_1252: usize = 1;

/// In the order in which ftfy tries them (`CHARMAP_ENCODINGS`).
pub(super) const CODE_PAGES: [CodePage; 10] = [
    // latin-1
    CodePage {
        upper: "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
        is_sloppy: false,
        is_macroman: false,
    },
    // windows-1252
    CodePage {
        upper: "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
        is_sloppy: true,
        is_macroman: false,
    },
    // windows-1251
    CodePage {
        upper: "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
        is_sloppy: true,
        is_macroman: false,
    },
    // windows-1250
    CodePage {
        upper: "€\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
        is_sloppy: true,
        is_macroman: false,
    },
    // windows-1253
    CodePage {
        upper: "€\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ",
        is_sloppy: true,
        is_macroman: false,
    },
    // windows-1254
    CodePage {
        upper: "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
        is_sloppy: true,
        is_macroman: false,
    },
    // windows-1257
    CodePage {
        upper: "€\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙",
        is_sloppy: true,
        is_macroman: false,
    },
    // iso-8859-2
    CodePage {
        upper: "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
        is_sloppy: false,
        is_macroman: false,
    },
    // macroman
    CodePage {
        upper: "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
        is_sloppy: false,
        is_macroman: true,
    },
    // cp437
    CodePage {
        upper: "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
        is_sloppy: false,
        is_macroman: false,
    },
];

/// Classes of [`BADNESS`] by name, as the inside of a regex class (`MOJIBAKE_CATEGORIES`).
pub(super) const CATEGORIES: [(&str, &str); 14] = [
    ("{common}", "\u{a0}\u{ad}·´–—―…’"),
    ("{c1}", "\u{80}-\u{9f}"),
    ("{bad}", "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº"),
    ("{law}", "¶§"),
    ("{currency}", "¢£¥₧€"),
    ("{start_punctuation}", "¡«¿©΄΅‘‚“„•‹\u{f8ff}"),
    ("{end_punctuation}", "®»˝”›™"),
    ("{numeric}", "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№"),
    ("{kaomoji}", "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°"),
    (
        "{upper_accented}",
        "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ",
    ),
    ("{lower_accented}", "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ"),
    ("{upper_common}", "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я"),
    ("{lower_common}", "α-ωάέήίΰа-џ"),
    ("{box}", "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓"),
];

/// Unlikely neighbours: text that matches one of these is probably mojibake (`BADNESS_RE`). Python's `\s` and `\w` are spelled out.
pub(super) const BADNESS: [&str; 37] = [
    r"[{c1}]",
    r"[{bad}{lower_accented}{upper_accented}{box}{start_punctuation}{end_punctuation}{currency}{numeric}{law}][{bad}]",
    r"[a-zA-Z][{lower_common}{upper_common}][{bad}]",
    r"[{bad}][{lower_accented}{upper_accented}{box}{start_punctuation}{end_punctuation}{currency}{numeric}{law}]",
    r"[{lower_accented}{lower_common}{box}{end_punctuation}{currency}{numeric}][{upper_accented}]",
    r"[{box}{end_punctuation}{currency}{numeric}][{lower_accented}]",
    r"[{lower_accented}{box}{end_punctuation}][{currency}]",
    r"[\s\x1c-\x1f][{upper_accented}][{currency}]",
    r"[{upper_accented}{box}][{numeric}{law}]",
    r"[{lower_accented}{upper_accented}{box}{currency}{end_punctuation}][{start_punctuation}][{numeric}]",
    r"[{lower_accented}{upper_accented}{currency}{numeric}{box}{law}][{end_punctuation}][{start_punctuation}]",
    r"[{currency}{numeric}{box}][{start_punctuation}]",
    r"[a-z][{upper_accented}][{start_punctuation}{currency}]",
    r"[{box}][{kaomoji}]",
    r"[{lower_accented}{upper_accented}{currency}{numeric}{start_punctuation}{end_punctuation}{law}][{box}]",
    r"[{box}][{end_punctuation}]",
    r"[{lower_accented}{upper_accented}][{start_punctuation}{end_punctuation}][\p{L}\p{N}_]",
    r"[Œœ][^A-Za-z]",
    r"[{upper_accented}]°",
    r"[ÂÃÎÐ][€œŠš¢£Ÿž\xa0\xad®©°·»{start_punctuation}{end_punctuation}–—´]",
    r"×[²³]",
    r"[ØÙ][{common}{currency}{bad}{numeric}{start_punctuation}ŸŠ®°µ»][ØÙ][{common}{currency}{bad}{numeric}{start_punctuation}ŸŠ®°µ»]",
    r"à[²µ¹¼½¾]",
    r"√[±∂†≠®™´≤≥¥µø]",
    r"≈[°¢]",
    r"‚Ä[ìîïòôúùû†°¢π]",
    r"‚[âó][àä°ê]",
    r"вЂ",
    r"[ВГРС][{c1}{bad}{start_punctuation}{end_punctuation}{currency}°µ][ВГРС]",
    r"ГўВЂВ.[A-Za-z\x20]",
    r"Ã[\xa0¡]",
    r"[a-z][\s\x1c-\x1f]?[ÃÂ][\x20]",
    r"\A[ÃÂ][\x20]",
    r"[a-z.,?!{end_punctuation}]Â[\x20{start_punctuation}{end_punctuation}]",
    r"β€[™\xa0Ά\xad®°]",
    r"[ΒΓΞΟ][{c1}{bad}{start_punctuation}{end_punctuation}{currency}°][ΒΓΞΟ]",
    r"ā€",
];

/// First of two bytes, as any of the code pages shows it.
pub(super) const FIRST_OF_2: &str = "ÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩΪΫάέήίВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ";

/// First of three bytes, as any of the code pages shows it.
pub(super) const FIRST_OF_3: &str =
    "àáâãäåæçèéêëìíîïāăąćčďēėęěģīįķĺļŕźΰαβγδεζηθικλμνξοабвгдежзийклмноп";

/// First of four bytes, as any of the code pages shows it.
pub(super) const FIRST_OF_4: &str = "ðóđğšπσру";

/// A later byte, or the space that stands for 0xA0, as any of the code pages shows it.
pub(super) const CONTINUATION: &str = " \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÆØæøĄąĽľŁłŒœŖŗŚśŞşŠšŤťŸŹźŻżŽžƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐґ–—―‘’‚“”„†‡•…‰‹›€№™";

/// A later byte that seldom stands for itself, as any of the code pages shows it.
pub(super) const CONTINUATION_STRICT: &str = "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÆØæøĄąĽľŁłŒœŖŗŚśŞşŠšŤťŸŹźŻżŽžƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐґ†‡‰‹›€№™";
