"""The strings of the text fixtures: written by hand where a rule is aimed at, seeded at random where none is."""

from __future__ import annotations

import random
import unicodedata
from itertools import product

OBJECTS = "cactus house tree boat cat star flower rocket fish sun moon mushroom robot snowman balloon car".split()
COLOURS = "red green blue yellow orange purple pink white".split()
SIZES = ("small", "big", "tiny", "huge", "")
FACES = ("with a happy face", "with a sad face", "looking gloomy", "smiling", "")
PLACES = (
    "in the Sahara desert", "on the water", "in the forest", "in the snow", "in space", "in a meadow", "by the sea",
    "at the foot of a mountain",
)  # fmt: skip
TIMES = ("at night", "at sunset", "by day", "")
STYLES = (
    "",
    "oil on canvas, ",
    "A photo of ",
    "cartoon: ",
    "Pixel-art ",
    "8k, highly detailed, ",
    "(masterpiece:1.2) ",
)

HAND_WRITTEN_TOKEN_TEXTS = (
    "", " ", "   ", "\t", "\n", "\r\n", "\t \n \x0b\x0c", "\u00a0", "\u3000", "\u200b", "\u2028\u2029", "\ufeff",
    "a", "A", "▁", "▁▁", "a▁b", "▁a", "a▁", " a", "a ", " a b ", "a  b", "a \u00a0 b", "a\u3000b", "a\u200bb",
    "a\u00adb", "a\u2060b", "a\tb\nc\r\nd", "\x01", "a\x01b", "\x1fa\x7f", "\x80\x85\x9f", "a\x85b",
    "a\x1cb\x1db\x1eb\x1fb", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "ﬁ ﬂ ﬀ ﬃ ﬄ ﬅ ﬆ", "ﬁnd the ﬂower",
    "Ｆｕｌｌ　ｗｉｄｔｈ", "ｃａｃｔｕｓ", "①②③ ⅷ ½ ¾ ² ³ ™ ℡ ㎏ ㍿", "ｶﾞｷﾞｸﾞ", "가각 ᄀ ᅡ ᆨ", "각",
    "é e\u0301 e\u0301\u0302 E\u0301", "Z\u0351\u036b\u0343a\u0321\u0353lgo", "Å Å A\u030a",
    "ṩ s\u0323\u0307 s\u0307\u0323", "Ω Ω", "ſ ẞ ß", "İ ı I i̇", "Ǆ ǅ ǆ", "ὀδυσσεύς ΟΔΥΣΣΕΥΣ",
    "Съешь же ещё этих мягких французских булок", "שלום עולם", "\u200fשלום\u200e hello \u202bمرحبا\u202c",
    "مرحبا بالعالم", "السَّلَامُ عَلَيْكُمْ", "हिन्दी में एक बिल्ली", "ภาษาไทย", "ქართული", "Հայերեն", "中文的小猫",
    "日本語の猫とサボテン", "한국어 고양이", "𠮷野家 𠀋", "𝒜𝓃 𝕠𝕝𝕕 𝔥𝔬𝔲𝔰𝔢", "🌵", "🌵🌵🌵", "a 🌵 in the 🏜️",
    "👩‍👩‍👧‍👦", "👍🏽", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🇫🇷🇩🇪", "❤️‍🔥",
    "☺︎ ☺️", "1234567890", "3.14159", "1,000,000", "-42", "1e-5", "0x1F", "2001-09-11", "12:30", "50%", "$9.99",
    "€5", "1920x1080", "C3PO", "a1b2", "!!!!!!!!!!", "...", "….", "?!?!", "---", "–—―", "“quoted” ‘single’",
    "«guillemets»", "a,b;c:d.e", "(a) [b] {c} <d>", "a/b\\c|d", "~`@#$%^&*_+=", "<", ">", "<>", "< /s>", "</ s>",
    "<s>", "<extra_id_0>", "<extra_id>", "<pad", "unk>", "&lt;/s&gt;", "<html><body>", "don't can't it's", "O’Neill",
    "CamelCaseWords", "ALL CAPS TEXT", "snake_case_words", "kebab-case-words", "https://example.com/a?b=c&d=e",
    "user@example.com", "a" * 600, "ab " * 200, " " * 600, "🌵" * 130, "cactus " * 130, "x" * 119, "é" * 300,
    "a small cactus " * 40, "." * 600, "\n" * 600, "▁" * 600, "supercalifragilisticexpialidocious",
    "donaudampfschifffahrtsgesellschaftskapitän", "\u0301", "\u0301a", "\u200d", "\ufe0f", "a\u0301\u200d\ufe0f",
    "\u1160\u115f\u3164", "\u2800", "\u180e", "\u061c", "\u00ad", "\u034f", "𝟘𝟙𝟚", "𐍈", "👨🏿‍🦱 and 👩🏻‍🦰",
    "e\u0301" * 100, "\ufb4f\ufb1d", "ﷺ", "ﷲ", "㋿", "㍻",
)  # fmt: skip

# (first, last): blocks to draw from, among them those where normalisation, direction or category is unusual.
BLOCKS = (
    (0x0001, 0x001F), (0x0020, 0x007E), (0x007F, 0x009F), (0x00A0, 0x00FF), (0x0100, 0x024F), (0x0250, 0x02FF),
    (0x0300, 0x036F), (0x0370, 0x03FF), (0x0400, 0x04FF), (0x0530, 0x058F), (0x0590, 0x05FF), (0x0600, 0x06FF),
    (0x0900, 0x097F), (0x0E00, 0x0E7F), (0x0F00, 0x0FFF), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF),
    (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF), (0x2100, 0x218F), (0x2190, 0x23FF), (0x2460, 0x24FF),
    (0x2600, 0x27BF), (0x2E80, 0x2FDF), (0x3000, 0x30FF), (0x3130, 0x318F), (0x3200, 0x33FF), (0x4E00, 0x9FFF),
    (0xA000, 0xA4CF), (0xAC00, 0xD7AF), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F),
    (0xFE70, 0xFFFF), (0x10000, 0x100FF), (0x1D400, 0x1D7FF), (0x1F000, 0x1F02F), (0x1F1E6, 0x1F1FF),
    (0x1F300, 0x1FAFF), (0x20000, 0x200FF), (0x2F800, 0x2FA1F), (0xE0000, 0xE01EF),
)  # fmt: skip


def token_texts() -> list[str]:
    """Captions, hand-written oddities and random Unicode; none has NUL, a surrogate or a special token's literal."""
    source = random.Random(5)
    texts = list(HAND_WRITTEN_TOKEN_TEXTS)
    texts += _captions(source, 900)
    for block in BLOCKS:
        texts += [_random_text(source, [block], source.randint(1, 24)) for _ in range(10)]
    for _ in range(500):
        texts.append(_random_text(source, source.sample(BLOCKS, source.randint(2, 6)), source.randint(1, 40)))
    for caption in _captions(source, 200):
        place = source.randint(0, len(caption))
        texts.append(
            caption[:place] + _random_text(source, source.sample(BLOCKS, 2), source.randint(1, 6)) + caption[place:]
        )
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        texts += [
            unicodedata.normalize(form, text) for text in ("Ünïcödé ﬁ ① Å 각 ｶﾞ ﷺ", "Amélie’s crème brûlée", "ệ Ẩ ǖ ḗ")
        ]
    texts += [_random_text(source, BLOCKS, 600) for _ in range(5)]
    return texts


def special_token_texts() -> list[str]:
    """Prompts with the literals of special tokens, which transformers turns into the tokens themselves."""
    literals = ("</s>", "<pad>", "<unk>")
    texts = list(literals)
    for literal in literals:
        texts += [
            f"a cat{literal}", f"a cat {literal}", f"{literal} a cat", f"{literal}a cat", f"a {literal} cat",
            f"a{literal}cat", f"a  {literal}  cat", f"{literal}{literal}", f"{literal} {literal}",
            f"a\t{literal}\ncat", f"a cat {literal} and a house {literal}",
        ]  # fmt: skip
    texts += [
        "</S>",
        "<PAD>",
        "<Unk>",
        "<</s>>",
        "</s</s>>",
        "<pad><unk></s>",
        "a cat</s><pad><pad>",
        "cactus " * 117 + "</s> end",
    ]
    return texts


def preprocess_texts() -> list[str]:
    """Prompts on which lower-casing and stripping differ between languages and ideas of white space."""
    blanks = (
        "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\u00a0\u1680"
        "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029"
        "\u202f\u205f\u3000\u180e\u200b\u200c\u200d\u2060\ufeff\x00\x01\x7f\u00ad\u2800\u3164"
    )
    texts = [f"{blank}A Cat{blank}" for blank in blanks]
    texts += [f"{blank}{blank} a{blank}B {blank}" for blank in "\x1c\u00a0\u3000\u200b\ufeff"]
    texts += [
        "İstanbul", "I ı İ i", "İİİ", "Iİ\u0307", "DİYARBAKIR", "ΟΔΥΣΣΕΥΣ", "ΣΑΣ", "Σ", "ΑΣ", "ΑΣ.", "ΑΣ Β", "ΑΣΒ",
        "Α\u0301Σ", "ΑΣ\u0301", "ΑΣ\u0301Β", "ΣΣ", "aΣ", "aΣb", "a.Σ", "Σa", "1Σ", "ΑΣ'Β", "ΑΣ\u00adΒ", "ΑΣ\u200bΒ",
        "ǈΣ", "ΌΣΟΣ ΣΊΣΥΦΟΣ", "STRASSE straße", "STRAẞE", "ẞ", "ß", "ŉ ǰ ΐ ΰ", "Ǆ ǅ ǆ Ǉ ǈ Ǌ", "ﬁ ﬂ ﬃ", "Å K Ω",
        "Ⅷ Ⓐ Ａ", "ᲐᲑᲒ", "ႠႡ", "Ꭰ Ꮿ ꭰ", "𐐀𐐁", "𝐀𝐁", "Ԁ Ѐ Я Ж", "Ա ԵՒ", "Þ Ð Æ Œ", "ȺȾ", "ᾈ ᾼ ῼ", "ϴ ϒ", "Ɐ Ɑ", "Ꞛ",
        "𞤀", "Ｈｅｌｌｏ", "中文 ABC", "🌵 CACTUS", "É E\u0301", "ÀÉÎÕÜ", "", " ", "\u3000\u00a0\x1c",
        "A small CACTUS with a Happy Face.", "  trailing  ", "multi\nLine\tText ", "tHe qUiCK", "\x1cA\x1d B\x1e",
    ]  # fmt: skip
    return texts


def caption_texts() -> list[str]:
    """Captions for each rule of the cleaning, alone and next to plain text, and plain prompts that must survive."""
    source = random.Random(50)
    texts = list(CAPTION_RULES)
    plain = _captions(source, 60)
    texts += plain
    for rule in CAPTION_RULES[:: max(1, len(CAPTION_RULES) // 70)]:
        texts.append(f"{source.choice(plain)} {rule} {source.choice(plain)}")
    for _ in range(40):
        texts.append(_random_text(source, source.sample(BLOCKS, 4), source.randint(5, 40)))
    return texts


CAPTION_RULES = (
    # Percent and plus decoding, white space, letters, <person>.
    "a%20cat", "a+cat+in+a+hat", "100%25 cotton", "%E2%98%83 snowman", "%zz %4", "caf%C3%A9", "%FF%FE", "  A CAT  ",
    "<person> in a boat", "<PERSON>", "a%2520cat", "C++ code", "1+1=2", "İSTANBUL ΣΑΣ",
    # URLs, both rules, and what looks like one.
    "http://example.com", "https://example.com/path/to?x=1&y=2 tail", "see https://t.co/abc123 now",
    "www.example.com", "www.example.co.uk/page", "example.org/dir/file", "visit shop.ru today", "foo.it", "edu.gov",
    "a.commando", "it.is", "me@example.com", "example.com@me", "ftp://example.com/file", "www:foo", "http:/x",
    "https:abc", "sub.domain.example.net/", "end of sentence.it begins", "http://example.com/a_b-c/d.e",
    "HTTP://UPPER.COM", "yahoo!com",
    # HTML and entities.
    "<b>bold</b> cat", "<p>para<br>break</p>", "a <a href='x'>link</a> b", "<script>alert(1)</script>cat",
    "<!-- hidden -->shown", "5 < 6 > 4", "a <cat", "&lt;b&gt;x&lt;/b&gt;", "&amp;", "&amp;amp;", "&quot;cat&quot;",
    "&quotcat", "&ampcat", "&nbsp;cat&nbsp;", "&#39;cat&#39;", "&#x1F335;", "&eacute;t&eacute;", "&copy; 2020",
    "&hellip;", "&bogus; x", "&amp;lt;b&amp;gt;", "&amp;amp;eacute;", "tom & jerry", "AT&T",
    "&#0; &#xD800; &#1114112;", "&notit; &not;", "<br/>", "<div><span>nested</span></div> tail",
    "<img src='a.png' alt='b'>", "<style>p{}</style>x", "<title>t</title>", "<textarea><b>x</b></textarea>",
    "<?xml version='1.0'?>x", "<![CDATA[x]]>", "a</b>c", "<cat>", "< b >x", "<B>UP</B>", "&#8217;s",
    "&ldquo;q&rdquo;",
    # Nicknames.
    "@nick cat", "photo by @some_user123", "a@b", "@@double", "@", "@ñandú", "mail@",
    # CJK and neighbours.
    "猫 cat", "㇀㇏ strokes", "ㇰㇿ small kana", "㈠㊀ enclosed", "㌀㍿ squared", "㐀㐁 extension a", "䷀䷁ hexagrams",
    "日本語のひらがな", "カタカナ", "한국어", "𠮷 extension b", "cat在house里", "。、「」",
    # Dashes and quotes.
    "a-b", "a\u2010b\u2011c\u2012d\u2013e\u2014f\u2015g", "a\u058ab\u05bec\u1400d\u1806e",
    "\u2e17\u2e1a\u2e3a\u2e3b\u2e40", "a\u301cb\u3030c\u30a0d", "\ufe31\ufe32\ufe58\ufe63\uff0d", "a--b", "- a -",
    "`a´ «b» “c” ¨d", "‘a’ b’s", "„low“ ‚low‘", "'quoted'", '"quoted"', '""very""', "''x''", "\"'mixed'\"",
    "\"a\" and \"b\"", "it's", "'", '"', "''", "'a", "a'",
    # Addresses, ids, numbers.
    "host 192.168.0.1 up", "1.2.3.4.5", "999.999.999.999", "ratio 4:30", "ratio 4:30 ", "ratio 4:30\\n", "14:305",
    "at 9:15   ", "line\\nbreak", "\\n", "real\nbreak", "#1 cat", "#123 cat", "#1234 cat", "#12345 cat", "#1234567",
    "#12a", "123456 cats", "12345 cats", "1234567890123", "x123456", "123456x", "#cat", "call 555-0100", "٣٤٥٦٧٨",
    # File names and formats.
    "photo.jpg", "dir/photo.jpeg of a cat", "a.png b.webp c.pdf d.mp4 e.apk f.eps g.bmp", "my.photo.pngs",
    "png image", "jpg images of cats", "a jpeg", "pdfs", "clip.MP4", "webp", "an mp4 image",
    # Repeated marks, bad punctuation, lone dots.
    "wow...", "wow.. ok", "a . b", "a .b", "a. b", "***SALE***", "#SALE", "a|b", "[x] {y} (z)", "a/b", "a\\b",
    "®•©™&@·º½¾¿¡§~", "a~b", "50º", "¿qué?", "x * y", "((masterpiece:1.3))", "{{{deep}}}", "a ... . b",
    # Words joined by hyphens or underscores, few and many.
    "this-is-my-cute-cat", "this_is_my_cute_cat", "this-is-my-cat", "one-two", "a_b_c_d_e", "a-b_c-d_e", "----",
    "___", "well-known state-of-the-art", "state-of-the-art-design",
    # Mojibake and what ftfy mends.
    "cafÃ©", "â€œquotedâ€\x9d", "donâ€™t", "Ã¼ber", "âœ” ok", "rÃ©sumÃ©", "ðŸŒµ", "ï»¿bom",
    "The Mona Lisa doesnÃ¢â‚¬â„¢t have eyebrows", "l’humanité", "ＬＯＵＤ ＮＯＩＳＥＳ", "ﬁne ﬂower", "a\x00b",
    "a\x1b[31mred\x1b[0m", "\ufeffcat", "a\u2028b\u2029c", "a\x85b", "schÃ¶n", "ÐŸÑ€Ð¸Ð²ÐµÑ‚", "PÃªche", "Â£5",
    "a\u00a0b", "\u0091x\u0092", "e\u0301", "\ud55c\uae00", "ĳ ŀ ŉ", "a\r\nb\rc",
    # Codes.
    "jc6640", "JC6640 cat", "abcd123", "ab12", "jc6640vc", "a1b", "6640vc231", "1a2", "j2d1a2a", "x1y2z3", "r2d2",
    "c3po", "b2b", "3d render", "4k 8k hdr", "mp3", "h264", "covid19", "1st 2nd 3rd", "model3", "a1b2c3d4",
    # Shop words.
    "free shipping", "worldwide free shipping", "worldwide shipping on cats", "shipping",
    "Worldwide   free   shipping", "free download", "download free", "download", "freedownload",
    "cat download free now", "click for more", "click on link", "click here", "clickon it", "click for", "page 12",
    "page  3 of 4", "page one", "homepage 5", "free",
    # Sizes.
    "1920x1080", "1920 x 1080", "10x", "x10", "3.5x4.5 cm", "2х3", "2×3", "1920x1080px", "4x4x4", "30.x40.",
    "5x7 print of a cat",
    # Colons, commas, dots, slashes, ends.
    "title : cat", "title :cat", "a : b : c", "cat,house,tree", "cat,dog", "1,2,3", "a.b.c", "and/or", "a./b",
    "end.", "end,", "end:", "end-", "end+", "end_", "end'", ",start", ":start", ";start", "-start", "_start",
    "'start", ".start", ".start now", "..start", ". start", "'a b'", "\"'a\"", "\"a", "a\"", "-'a'-", ",", ":", "-",
    "+", "_", ".", "...", "a  b   c", "tab\tsep", "", " ", "\n", "a,  b", "a ,b", "«a»", "3,14", "é,è", "a,1", "1,a",
    "_,a",
)  # fmt: skip


def _captions(source: random.Random, count: int) -> list[str]:
    """Captions in the manner of the sketchbook's training data, some in tag style, some with odd spacing and case."""
    grammar = list(product(STYLES, SIZES, COLOURS, OBJECTS, FACES, PLACES, TIMES))
    captions = []
    for style, size, colour, thing, face, place, time in source.sample(grammar, count):
        words = ["a", size, colour, thing, face, place, time]
        separator = source.choice((" ", " ", " ", ", ", "  "))
        caption = style + separator.join(word for word in words if word) + source.choice(("", ".", "!", "..."))
        captions.append(source.choice((str, str, str.capitalize, str.upper, str.title))(caption))
    return captions


def _random_text(source: random.Random, blocks: list[tuple[int, int]], length: int) -> str:
    characters = (chr(source.randint(*source.choice(blocks))) for _ in range(length))
    return "".join(" " if source.random() < 0.1 else character for character in characters)
