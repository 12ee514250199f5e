#!/usr/bin/env bash
# Plain English and Chinese text from Debian's documentation packages, a paragraph a line: DIR/{en,zh}_{train,heldout}.txt.
# Packages are downloaded and unpacked into DIR/packages, not installed. Every 40th paragraph (by its checksum) is held out.
# usage: scripts/debian_corpus.sh DIR
source "$(dirname "$0")/common.sh"

[ $# -eq 1 ] || die "usage: scripts/debian_corpus.sh DIR"
mkdir -p "$1/packages"
dir=$(cd "$1" && pwd)
english="libreoffice-help-en-us debian-reference-en manpages fortunes"
chinese="libreoffice-help-zh-cn debian-reference-zh-cn manpages-zh fortunes-zh"

fetch() {
  local package=$1 partial=$dir/packages/$1.partial
  [ ! -e "$dir/packages/$package" ] || return 0
  rm -rf "$partial" && mkdir -p "$partial/deb"
  # The download user of apt may not enter a private home; then apt says so and downloads as the caller.
  (cd "$partial/deb" && apt-get -qq -o APT::Sandbox::User=root download "$package") >&2 || die "can't download the Debian package $package"
  dpkg -x "$partial"/deb/*.deb "$partial"
  rm -r "$partial/deb"
  mv "$partial" "$dir/packages/$package"
}

# HTML -> paragraphs: scripts and heads dropped, block tags end a line, a few entities decoded.
html_text() {
  find "$1" -name '*.html' -print0 | sort -z | xargs -0 cat | perl -CSD -0777 -pe '
    s/<(head|script|style|nav|footer)\b.*?<\/\1>/\n/gsi; s/\s+/ /g;
    s/<\/?(p|div|h\d|li|td|th|tr|ul|ol|dl|dt|dd|br|pre|table|body|html)\b[^>]*>/\n/gi; s/<[^>]*>//g;
    s/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&nbsp;|&#160;/ /g; s/&#(\d+);/chr($1)/ge; s/&#x([0-9a-fA-F]+);/chr(hex($1))/ge; s/&amp;/&/g'
}

# roff -> paragraphs: macros at line starts end a paragraph (their text is kept for headings), escapes dropped.
man_text() {
  find "$1" -name '*.gz' -print0 | sort -z | xargs -0 zcat | perl -CSD -ne '
    chomp; next if /^[.\x27]\\"/ or /^[.\x27]\s*(TH|so|ds|de|if|ie|el|nr|ft|ad|hy|ta|in|ti|nh)\b/ or /^\.\.$/;
    if (/^[.\x27]\s*(SH|SS|B|I|BR|IR|BI|RI|RB|IB|SM|SB)\b\s*(.*)/) { my ($m, $t) = ($1, $2); $t =~ tr/"//d; $_ = $m =~ /^S[HS]$/ ? "\n$t\n" : "$t " }
    elsif (/^[.\x27]/) { $_ = "\n" } else { $_ = /[\x{3000}-\x{9fff}\x{ff00}-\x{ffef}]$/ ? $_ : "$_ " }
    s/\\f(\[[^\]]*\]|\(..|.)//g; s/\\[-e]/-/g; s/\\\(aq|\\\(cq|\\\(oq/\x27/g; s/\\\(em/--/g; s/\\s[-+]?\d//g; s/\\[&|^,\/%):]//g; s/\\\(..|\\\[[^\]]*\]//g; s/\\ / /g; s/\\//g;
    print'
}

plain_text() { zcat -f "$@" | perl -CSD -00 -pe 's/\e\[[\d;]*m//g; s/([\x{3000}-\x{9fff}\x{ff00}-\x{ffef}])\n\s*(?=[\x{3000}-\x{9fff}])/$1/g; s/\n\s*(?=\S)/ /g; $_ .= "\n"'; }

# One quotation (between lines of %) a paragraph; cross-references and colours dropped.
fortune_text() { cat "$@" | perl -CSD -0777 -pe 's/\e\[[\d;]*m//g; s/\n(?!%)\s*/ /g; s/\n%\s*/\n/g'; }

# Paragraphs of some length in the wanted script, tidied, each once, split into train and held out.
split_paragraphs() {
  local language=$1
  perl -CSD -Mutf8 -ne '
    BEGIN { $want = shift @ARGV }
    s/[\x{0}-\x{8}\x{b}-\x{1f}\x{7f}\x{feff}\x{200b}]//g; s/\s+/ /g; s/^ | $//g; my $length = length; my $han = () = /[\x{4e00}-\x{9fff}]/g;
    next if $want eq "zh" ? ($length < 12 or $han * 2 < $length) : ($length < 40 or $han or (() = /[a-zA-Z ]/g) * 5 < $length * 4);
    next if $seen{$_}++;
    my $sum = 0; $sum = ($sum * 31 + ord) % 1000003 for split //; print $sum % 40 == 7 ? "H" : "T", $_, "\n"' "$language" > "$dir/$language.tagged"
  sed -n 's/^T//p' "$dir/$language.tagged" > "$dir/${language}_train.txt"
  sed -n 's/^H//p' "$dir/$language.tagged" > "$dir/${language}_heldout.txt"
  rm "$dir/$language.tagged"
}

[ ! -e "$dir/.complete" ] || exit 0
for package in $english $chinese; do fetch "$package"; done
cd "$dir/packages"
export LC_ALL=C.UTF-8
{
  html_text libreoffice-help-en-us
  plain_text debian-reference-en/usr/share/debian-reference/*.txt.gz
  man_text manpages
  fortune_text $(find fortunes/usr/share/games/fortunes -type f ! -name '*.*' ! -name '*-art*' ! -name 'zippy' | sort)
} | split_paragraphs en
{
  html_text libreoffice-help-zh-cn
  plain_text debian-reference-zh-cn/usr/share/debian-reference/*.txt.gz
  man_text manpages-zh/usr/share/man/zh_CN
  fortune_text fortunes-zh/usr/share/games/fortunes/tang300 fortunes-zh/usr/share/games/fortunes/song100
} | split_paragraphs zh
for file in en_train en_heldout zh_train zh_heldout; do
  [ -s "$dir/$file.txt" ] || die "$dir/$file.txt came out empty: the packages' layout has changed"
done
touch "$dir/.complete"
