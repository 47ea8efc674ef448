#include "train/report_page.h"

#include <fmt/format.h>

#include "train/report_chart.h"

namespace hadal::internal {
namespace {

constexpr const char* kStyle = R"css(
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1b1f24;--soft:#5c6670;--line:#e3e5e8;
--grid:#eceef0;--c0:#1f6feb;--c1:#d9730d;--c2:#2b9348;--c3:#8957e5;--c4:#bf3989;--c5:#0e7c86;--c6:#9a6700;--c7:#57606a;--good:#1a7f37;--bad:#cf222e;
--tint:31,111,235;--think:#f3f4f6;
--h0:#2166ac;--h1:#4d92c6;--h2:#92c0df;--h3:#cfe1ef;--h4:#f0f0ee;--h5:#fbdcc6;--h6:#f3a883;--h7:#d9644c;--h8:#b2182b}
@media(prefers-color-scheme:dark){:root{--bg:#0f1216;--card:#171b21;--ink:#e4e8ec;--soft:#98a2ad;
--line:#2a3038;--grid:#242a31;--c0:#58a6ff;--c1:#f0883e;--c2:#56d364;--c3:#bc8cff;--c4:#f778ba;--c5:#39c5cf;--c6:#d4a72c;--c7:#8b949e;--good:#3fb950;
--bad:#f85149;--tint:88,166,255;--think:#1e242c;
--h0:#6cb6ff;--h1:#4789cc;--h2:#2f5f94;--h3:#263d59;--h4:#2a2f36;--h5:#5a3a2a;--h6:#9a5133;--h7:#d66f45;--h8:#ff9d6f}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","Noto Sans CJK SC",sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 20px 72px}
h1{font-size:1.9rem;line-height:1.2;letter-spacing:-.015em;margin:0;overflow-wrap:anywhere}
h2{font-size:1.2rem;letter-spacing:-.005em;margin:44px 0 14px}
h3{font-size:.95rem;font-weight:600;margin:0 0 6px}
h3.part{margin:22px 0 8px}
p{margin:8px 0}
a{color:var(--c0);text-decoration:none}a:hover{text-decoration:underline}
.soft{color:var(--soft)}.small{font-size:.85rem}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:12px 0 0;font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(148px,1fr));gap:10px;margin:22px 0 0}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;min-width:0}
.tile{padding:11px 14px}
.tile b{display:block;font-size:1.3rem;font-weight:600;letter-spacing:-.01em;font-variant-numeric:tabular-nums;white-space:nowrap}
.tile span{color:var(--soft);font-size:.8rem}
.card{padding:14px 16px 10px}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:12px;margin:12px 0 0}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.82rem;color:var(--soft)}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;vertical-align:middle;margin-right:6px;background:currentColor}
svg.chart{display:block;width:100%;height:auto;margin-top:2px}
.narrow{display:none!important}
svg text.tick{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .grid{stroke:var(--grid);fill:none;stroke-width:1}
svg .line{fill:none;stroke-width:1.7;stroke-linejoin:round;stroke-linecap:round;stroke:currentColor}
svg .band{fill:currentColor;opacity:.16}svg .dot{fill:currentColor}
svg .hover{fill:currentColor;opacity:0}svg .hover:hover{opacity:.55}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}
.c4{color:var(--c4)}.c5{color:var(--c5)}.c6{color:var(--c6)}.c7{color:var(--c7)}
svg.heat{display:block;width:100%;border-radius:4px;background:var(--grid);shape-rendering:crispEdges}
.h0{fill:var(--h0)}.h1{fill:var(--h1)}.h2{fill:var(--h2)}.h3{fill:var(--h3)}.h4{fill:var(--h4)}
.h5{fill:var(--h5)}.h6{fill:var(--h6)}.h7{fill:var(--h7)}.h8{fill:var(--h8)}
.heatbox{display:grid;grid-template-columns:auto 1fr;gap:2px 8px;align-items:stretch}
.heatbox .rows{display:flex;flex-direction:column;justify-content:space-between;font-size:.72rem;color:var(--soft);text-align:right;line-height:1}
.heatbox .cols{grid-column:2;display:flex;justify-content:space-between;font-size:.72rem;color:var(--soft)}
.scale{display:inline-flex;align-items:center;gap:8px;font-size:.8rem;color:var(--soft)}
.scale svg{width:108px;height:10px;border-radius:3px}
.wrap{overflow-x:auto;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:7px 12px;text-align:left;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere;min-width:6em}
td:first-child{min-width:8.5em}td code{display:inline-block;min-width:11em}td.n,th.n{min-width:4.5em}
th{font-weight:600;color:var(--soft);font-size:.8rem;white-space:nowrap}
tr:last-child td{border-bottom:0}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.n small,td small{display:block;color:var(--soft);font-size:.74rem;white-space:nowrap}
svg.interval{width:110px;height:11px;vertical-align:middle}
.range{stroke:var(--c0);stroke-width:3;opacity:.4;stroke-linecap:round}.mark{fill:var(--c0)}
.yes,.no,td .soft{white-space:nowrap}.yes{color:var(--good);font-weight:600}.no{color:var(--bad);font-weight:600}
pre,code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.84rem}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;overflow:hidden}
.code{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.card.talk{margin:12px 0 0;padding:0;overflow:hidden}
.talk>div{padding:10px 16px}
.talk .who{font-size:.74rem;color:var(--soft);display:flex;justify-content:space-between;margin-bottom:3px}
.talk .prompt{background:rgba(var(--tint),.06);border-bottom:1px solid var(--line)}
.think{color:var(--soft);background:var(--think);border-left:3px solid var(--line);border-radius:0 6px 6px 0;padding:6px 10px;margin:4px 0 8px}
details{margin:12px 0 0}summary{cursor:pointer;color:var(--soft);font-size:.9rem}
.talk details{margin:0;border-top:1px solid var(--line);padding:8px 16px}
footer{margin-top:56px;color:var(--soft);font-size:.8rem;border-top:1px solid var(--line);padding-top:12px}
@media(max-width:640px){main{padding:20px 12px 48px}h1{font-size:1.5rem}h2{margin-top:34px}
.wide{display:none!important}.narrow{display:block!important}.card{padding:12px 12px 8px}th,td{padding:6px 9px}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}.tile b{font-size:1.12rem}}
@media print{main{max-width:none}.card,.wrap,.tile{break-inside:avoid}}
)css";

}  // namespace

std::string Isolated(const std::string& text) { return "<bdi>" + EscapeHtml(text) + "</bdi>"; }

std::string Page(const std::string& title, const std::string& body) {
  std::string out = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  // The page is escaped throughout; the policy is the second wall: nothing runs, nothing is
  // fetched.
  out += R"(<meta http-equiv="Content-Security-Policy" content="default-src 'none'; )"
         R"(style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">)"
         "\n";
  out += R"(<meta name="viewport" content="width=device-width,initial-scale=1">)"
         "\n<meta name=\"referrer\" content=\"no-referrer\">\n";
  out += "<title>" + EscapeHtml(title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n";
  return out + "<body>\n<main>\n" + body + "</main>\n</body>\n</html>\n";
}

std::string Section(const std::string& id, const std::string& heading, const std::string& html) {
  if (html.empty()) return {};
  return fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n", id, EscapeHtml(heading),
                     html);
}

std::string Table(const std::vector<std::string>& head,
                  const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& numeric) {
  const auto cls = [&](size_t column) {
    return column < numeric.size() && numeric[column] ? " class=\"n\"" : "";
  };
  std::string out = "<div class=\"wrap\"><table>", names;
  for (size_t i = 0; i < head.size(); ++i) {
    names += fmt::format("<th{}>{}</th>", cls(i), EscapeHtml(head[i]));
  }
  if (!names.empty()) out += "<thead><tr>" + names + "</tr></thead>";
  out += "<tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) out += fmt::format("<td{}>{}</td>", cls(i), row[i]);
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace hadal::internal
