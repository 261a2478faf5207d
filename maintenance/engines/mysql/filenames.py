"""How both products spell the name of a table or schema as the name of a file, and back.

Letters, digits and _ stand for themselves, some 1,500 other letters are @ and two characters, every other character
is @ and its number in four hexadecimal digits: 'Kün#1' is 'K@1on@00231'. MariaDB converts so by `CONVERT(… USING
filename)`, MySQL no longer knows that character set in SQL; the table is the same (a test asks MariaDB for all of it).
https://dev.mysql.com/doc/refman/8.4/en/identifier-mapping.html
"""

from __future__ import annotations

import re

PLAIN = "0123456789@ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""What the second and third character of a short code can be."""
LETTERS = {
    "0": "                 ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓ      àáâãäåæçèéêëìíîïðñòó",
    "1": "                 ÔÕÖ ØÙÚÛÜÝÞŸĀĂĄĆĈĊČĎ      ôõößøùúûüýþÿāăąćĉċčď",
    "2": "                 ĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮ ĲĴĶ      đēĕėęěĝğġģĥħĩīĭįıĳĵķ",
    "3": "                  ĹĻĽĿŁŃŅŇ ŊŌŎŐŒŔŖŘŚŜ      ĸĺļľŀłńņňŉŋōŏőœŕŗřśŝ",
    "4": "                 ŞŠŢŤŦŨŪŬŮŰŲŴŶŹŻŽ          şšţťŧũūŭůűųŵŷźżžſ",
    "5": "                                                             ΐ",
    "6": "                 ΆΈΉΊ Α ΓΔΕΖΗ Ι ΛΜΝΞΟ      άέήίΰαβγδεζηθικλμνξο",
    "7": "                  Ρ  ΤΥ ΧΨΩΪΫΌΎΏ ΒΘϒϓ      πρςστυφχψωϊϋόύώ ϐϑ",
    "8": "                 ϔΦΠ  ϚϜϞϠϢϤϦϨϪϬϮΚ Σ        ϕϖϗϙϛϝϟϡϣϥϧϩϫϭϯϰϱϲϳ",
    "9": "                      ϽϾϿ                  ϵ϶ϸϻϼ",
    "@": "           ⒶⒷⒸⒹⒺⒻⒼⒽⒾⒿⓀⓁⓂⓃⓄⓅⓆⓇⓈⓉⓊⓋⓌⓍⓎⓏⓐⓑⓒⓓⓔⓕⓖⓗⓘⓙⓚⓛⓜⓝⓞⓟⓠⓡⓢⓣⓤⓥⓦⓧⓨⓩ",
    "A": "          Ａ",
    "B": "          Ｂ",
    "C": "          Ｃ",
    "D": "          Ｄ",
    "E": "          Ｅ",
    "F": "          Ｆ",
    "G": "АФЈѸҦӍӴ ՄⅠＧ                           ƳǞȈȰ      ḀḨṐṸṠẾỦἈἪ Ὤᾈᾬ",
    "H": "БХЉѺҨ ӶԱՅⅡＨ                          ƂƵǠȊȲ  Ɲ   ḂḪṒṺ ỀỨἉἫ Ὥᾉᾭ",
    "I": "ВЦЊѼҪӐӸԲՆⅢＩ                          ƄƸǢȌ       ḄḬṔṼ ỂỪἊἬ Ὦᾊᾮ",
    "J": "ГЧЋѾҬӒ ԳՇⅣＪ                          Ƈ ǤȎ  Ɠ Ʈ  ḆḮṖṾ ỄỬἋἭ Ὧᾋᾯ",
    "K": "ДШЌҀҮӔ ԴՈⅤＫ                          Ƌ ǦȐ   Ɵ   ḈḰṘẀ ỆỮἌἮ ᾺᾌᾸ",
    "L": "ЕЩЍ ҰӖ ԵՉⅥＬ                            ǨȒ    Ʊ  ḊḲṚẂẠỈỰἍἯὙΆᾍᾹ",
    "M": "ЖЪЎҊҲӘ ԶՊⅦＭ                          Ƒ ǪȔ  Ɣ Ʋ  ḌḴṜẄẢỊỲἎἸ Ὲᾎ",
    "N": "ЗЫЏҌҴӚ ԷՋⅧＮ                          ǶƼǬȖ       ḎḶṞẆẤỌỴἏἹὛΈᾏᾼῨ",
    "O": "ИЬѠҎҶӜ ԸՌⅨＯ                          ƘǄǮȘȺ      ḐḸ ẈẦỎỶἘἺ Ὴᾘ Ῡ",
    "P": "ЙЭѢҐҸӞԀԹՍⅩＰ                          ȽǇ ȚȻ      ḒḺṢẊẨỐỸἙἻὝΉᾙ",
    "Q": "КЮѤҒҺӠԂԺՎⅪＱ                           ǊǱȜȾƁ     ḔḼṤẌẪỒ ἚἼ Ὶᾚ",
    "R": "ЛЯѦҔҼӢԄԻՏⅫＲ                          ȠǍǴȞ ƆƗ    ḖḾṦẎẬỔ ἛἽὟΊᾛ",
    "S": "МЀѨҖҾӤԆԼՐⅬＳ                          ƠǏǸ   Ɩ    ḘṀṨẐẮỖ ἜἾ Ὸᾜ Ῥ",
    "T": "НЁѪҘӀӦԈԽՑⅭＴ                          ƢǑǺȢ Ɖ  Ʒ  ḚṂṪẒẰỘ ἝἿ Όᾝῌ",
    "U": "ОЂѬҚӁӨԊԾՒⅮＵ                          ƤǓǼȤ Ɗ     ḜṄṬẔẲỚ  Ὀ Ὺᾞ",
    "V": "ПЃѮҜӃӪԌԿՓⅯＶ                          ƧǕǾȦ   ƦɁ  ḞṆṮ ẴỜ  Ὁ Ύᾟ",
    "W": "РЄѰҞӅӬԎՀՔ Ｗ                           ǗȀȨ Ə     ḠṈṰ ẶỞ  ὊὨῺᾨ",
    "X": "СЅѲҠӇӮ ՁՕ Ｘ                           ǙȂȪ       ḢṊṲ ẸỠ  ὋὩΏᾩ",
    "Y": "ТІѴҢӉӰ Ղ  Ｙ                          ƬǛȄȬ ƐƜƩ   ḤṌṴ ẺỢ ἨὌὪ ᾪῘῼ",
    "Z": "УЇѶҤӋӲ Ճ  Ｚ                          ƯƎȆȮ       ḦṎṶ ẼỤ ἩὍὫ ᾫῙ",
    "a": "          ａ",
    "b": "          ｂ",
    "c": "          ｃ",
    "d": "          ｄ",
    "e": "          ｅ",
    "f": "          ｆ",
    "g": "афјѹҧӎӵ մⅰｇ                          ƀƴǟȉȱ ɝɱʅʙʭḁḩṑṹẛếủἀἢ ὤᾀᾤῒ",
    "h": "бхљѻҩ ӷայⅱｈ                          ƃƶǡȋȳ ɞɲʆʚʮḃḫṓṻ ềứἁἣ ὥᾁᾥΐῶ",
    "i": "вцњѽҫӑӹբնⅲｉ                          ƅƹǣȍȴ ɟɳʇʛʯḅḭṕṽ ểừἂἤ ὦᾂᾦ ῷ",
    "j": "гчћѿҭӓ գշⅳｊ                          ƈƺǥȏȵ ɠɴʈʜ ḇḯṗṿ ễửἃἥ ὧᾃᾧ",
    "k": "дшќҁүӕ դոⅴｋ                          ƌƻǧȑȶ ɡɵʉʝ ḉḱṙẁ ệữἄἦὐὰᾄᾰῖ",
    "l": "ещѝ ұӗ եչⅵｌ                          ƍ ǩȓȷ ɢɶʊʞ ḋḳṛẃạỉựἅἧὑάᾅᾱῗ",
    "m": "жъўҋҳә զպⅶｍ                          ƒƾǫȕȸ ɣɷʋʟ ḍḵṝẅảịỳἆἰὒὲᾆᾲ",
    "n": "зыџҍҵӛ էջⅷｎ                          ƕƽǭȗȹɐɤɸʌʠ ḏḷṟẇấọỵἇἱὓέᾇᾳῠ",
    "o": "иьѡҏҷӝ ըռⅸｏ                          ƙǆǯș ɑɥɹʍʡ ḑḹṡẉầỏỷἐἲὔὴᾐᾴῡ",
    "p": "йэѣґҹӟԁթսⅹｐ                          ƚǉǰțȼɒɦɺʎʢ ḓḻṣẋẩốỹἑἳὕήᾑ ῢ",
    "q": "кюѥғһӡԃժվⅺｑ                          ƛǌǳȝ ɓɧɻʏʣ ḕḽṥẍẫồ ἒἴὖὶᾒᾶΰ",
    "r": "ляѧҕҽӣԅիտⅻｒ                          ƞǎǵȟȿɔɨɼʐʤ ḗḿṧẏậổ ἓἵὗίᾓᾷῤ",
    "s": "мѐѩҗҿӥԇլրⅼｓ                          ơǐǹȡɀɕɩɽʑʥ ḙṁṩẑắỗ ἔἶ ὸᾔῂῥ",
    "t": "нёѫҙ ӧԉխցⅽｔ                          ƣǒǻȣ ɖɪɾʒʦ ḛṃṫẓằộ ἕἷ όᾕῃῦ",
    "u": "ођѭқӂөԋծւⅾｕ                          ƥǔǽȥ ɗɫɿʓʧ ḝṅṭẕẳớ  ὀ ὺᾖῄῧ",
    "v": "пѓѯҝӄӫԍկփⅿｖ                          ƨǖǿȧ ɘɬʀʔʨ ḟṇṯẖẵờ  ὁ ύᾗ",
    "w": "рєѱҟӆӭԏհք ｗ                          ƪǘȁȩ əɭʁʕʩ ḡṉṱẗặở  ὂὠὼᾠῆ",
    "x": "сѕѳҡӈӯ ձօ ｘ                          ƫǚȃȫ ɚɮʂʖʪ ḣṋṳẘẹỡ  ὃὡώᾡῇῲ",
    "y": "тіѵңӊӱ ղ  ｙ                          ƭǜȅȭ ɛɯʃʗʫ ḥṍṵẙẻợ ἠὄὢ ᾢῐῳ",
    "z": "уїѷҥӌӳ ճ  ｚ                          ưǝȇȯ ɜɰʄʘʬ ḧṏṷẚẽụ ἡὅὣ ᾣῑ",
}
"""By the second character of the code: the letters in the order of the third, a space where there is none."""
RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])", re.I)
"""Names that a file must not have on Windows: @@@ is put after them everywhere."""

_SHORT = {
    letter: f"@{second}{third}"
    for second, letters in LETTERS.items()
    for third, letter in zip(PLAIN, letters, strict=False)
    if letter != " "
}
_MEANT = {code: letter for letter, code in _SHORT.items()}
_CODE = re.compile("@@@$|@[0-9a-f]{4}|@[0-9@A-Za-z]{2}")


def in_file(name: str) -> str:
    """A name as files and InnoDB's own lists have it."""
    return "".join(map(_spelled, name)) + ("@@@" if RESERVED.fullmatch(name) else "")


def _spelled(character: str) -> str:
    if character.isascii() and (character.isalnum() or character == "_"):
        return character
    return _SHORT.get(character) or f"@{ord(character):04x}"


def from_file(name: str) -> str:
    """A name out of the spelling of files; what is no code stands for itself."""
    return _CODE.sub(_meant, name)


def _meant(found: re.Match[str]) -> str:
    code = found[0]
    if code == "@@@":
        return ""
    return chr(int(code[1:], 16)) if len(code) == 5 else _MEANT.get(code, code)
