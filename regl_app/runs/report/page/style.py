"""The report's style sheet: light, dark, print and phone."""

_DARK = """
  color-scheme:dark;
  --paper:#10131a;--card:#171b24;--ink:#eceef4;--ink-2:#b1b7c5;--ink-3:#838b9c;--line:#2a303c;
  --soft:#1e232e;--on:#0c0f15;--idle:#3a4150;
  --real:#6fa3f7;--synthetic:#f39b55;--lack:#ec74b2;--know:#3cc0b0;--bad:#ff8a80;
  --c0:#6fa3f7;--c1:#f39b55;--c2:#3cc0b0;--c3:#ec74b2;--c4:#ab8df2;--c5:#d6b656;--c6:#8ccc63;
  --c7:#98a1b3;
"""

_SHEET = """
:root{
  color-scheme:light;
  --paper:#fbfaf8;--card:#ffffff;--ink:#191c24;--ink-2:#4c5261;--ink-3:#7b8292;--line:#e4e1da;
  --soft:#f1efe9;--on:#ffffff;--idle:#dcd9d0;
  --real:#2c63c4;--synthetic:#e0752d;--lack:#bf3580;--know:#0d8378;--bad:#b3261e;
  --c0:#2c63c4;--c1:#e0752d;--c2:#0d8378;--c3:#bf3580;--c4:#7a55c7;--c5:#8a6d1f;--c6:#4b8f29;
  --c7:#5d6576;
  --sans:Inter,ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
  --mono:ui-monospace,"SF Mono","Cascadia Code","Fira Code",Menlo,Consolas,monospace;
}
@media screen{:root[data-theme=dark]{%DARK%}}
@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){%DARK%}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:4rem;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:400 1rem/1.6 var(--sans);
  font-feature-settings:"cv05","ss03";-webkit-font-smoothing:antialiased}
.frame{max-width:70rem;margin:0 auto;padding:0 1.5rem}
a{color:inherit;text-decoration-color:var(--ink-3);text-underline-offset:.2em}
b{font-weight:650}
code{font:.88em var(--mono)}

nav{position:sticky;top:0;z-index:5;border-bottom:1px solid var(--line);
  background:color-mix(in srgb,var(--paper) 88%,transparent);backdrop-filter:blur(10px)}
nav .frame{display:flex;gap:1.4rem;align-items:center;height:3rem;overflow-x:auto;
  scrollbar-width:none;white-space:nowrap;font-size:.86rem}
nav a{color:var(--ink-2);text-decoration:none}
nav a:hover,nav a:focus-visible{color:var(--ink)}
nav .brand{font-weight:700;color:var(--ink);letter-spacing:-.01em}
nav .brand i{display:inline-block;width:.62em;height:.62em;border-radius:.14em;
  background:linear-gradient(to top,var(--real) 55%,var(--synthetic) 55%);margin-right:.5em}
nav button{margin-left:auto;border:1px solid var(--line);background:none;color:var(--ink-2);
  font:inherit;border-radius:2rem;padding:.1rem .75rem;cursor:pointer;display:none}
.js nav button{display:block}

header{padding:4.2rem 0 1rem}
.kicker{color:var(--ink-3);font-size:.86rem;margin:0 0 .7rem}
h1{font-size:clamp(2rem,5.4vw,3.5rem);line-height:1.07;letter-spacing:-.034em;font-weight:680;
  margin:0;max-width:20em;text-wrap:balance}
h1 em{font-style:normal;color:var(--real)}
h1.failed em{color:var(--bad)}
.lede{font-size:clamp(1.05rem,2vw,1.24rem);line-height:1.55;color:var(--ink-2);max-width:42em;
  margin:1.3rem 0 0;text-wrap:pretty}
.lede b{color:var(--ink)}

.tiles{display:grid;grid-template-columns:repeat(6,minmax(0,1fr));margin:2.6rem 0 0;
  border:1px solid var(--line);border-radius:.9rem;background:var(--card);overflow:hidden}
.tile{padding:1.15rem 1.2rem 1.05rem;border-left:1px solid var(--line);min-width:0}
.tile:first-child{border-left:0}
.tile dt{font-size:.82rem;color:var(--ink-2);line-height:1.3;min-height:2.6em}
.tile dd{margin:.35rem 0 0;font-size:1.72rem;line-height:1.15;letter-spacing:-.025em;
  font-weight:620;font-variant-numeric:tabular-nums}
.tile dd small{font-size:.55em;font-weight:500;letter-spacing:0;color:var(--ink-2)}
.tile p{margin:.3rem 0 0;font-size:.8rem;line-height:1.4;color:var(--ink-3)}
.tile.main dd{color:var(--real)}
dl{margin:0}
.settings{display:grid;grid-template-columns:repeat(auto-fill,minmax(15.5rem,1fr));
  gap:0 2rem;margin:1.8rem 0 0;font-size:.9rem}
.settings div{display:flex;justify-content:space-between;gap:1rem;padding:.5rem 0;
  border-bottom:1px solid var(--line)}
.settings dt{color:var(--ink-2)}
.settings dd{margin:0;text-align:right;font-weight:550;overflow-wrap:anywhere}

section{padding:3.6rem 0 0}
h2{font-size:1.72rem;letter-spacing:-.024em;line-height:1.2;font-weight:660;margin:0 0 .45rem}
section>p.lead{margin:0 0 1.9rem;max-width:43em;color:var(--ink-2);text-wrap:pretty}
h3{font-size:1.04rem;letter-spacing:-.008em;line-height:1.35;font-weight:640;margin:0 0 .6rem}
h4{font-size:.88rem;font-weight:600;margin:0 0 .4rem}
h4 span,h5 span{font-weight:400;color:var(--ink-3)}
h5{font-size:.78rem;font-weight:600;margin:0 0 .2rem;line-height:1.35}

.figures{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:3rem 2.6rem}
figure{margin:0;min-width:0;break-inside:avoid}
figure.wide{grid-column:1/-1}
figure.lone{grid-column:1/-1;display:grid;grid-template-columns:repeat(2,minmax(0,1fr));
  column-gap:2.6rem;grid-template-rows:auto 1fr}
figure.lone>h3{grid-column:2;grid-row:1}
figure.lone>figcaption{grid-column:2;grid-row:2;margin:0}
figure.lone>.picture{grid-column:1;grid-row:1/3}
figcaption{margin:.85rem 0 0;font-size:.9rem;line-height:1.55;color:var(--ink-2);max-width:44em;
  text-wrap:pretty}
figcaption b{color:var(--ink)}
.absent{grid-column:1/-1;margin:0;font-size:.88rem;color:var(--ink-2);padding:.55rem .95rem;
  border:1px dashed var(--line);border-radius:.5rem}
.absent+details{margin-top:1.6rem}
[id$=record] .absent{margin-bottom:.6rem}
.absent b{color:var(--ink)}
b.lack{color:var(--lack)}
b.know{color:var(--know)}

svg{display:block;width:100%;height:auto;overflow:visible}
.scroll{overflow-x:auto;overflow-y:hidden;padding-bottom:.2rem;max-width:100%}
.scroll svg{min-width:calc(var(--natural)*.72);max-width:calc(var(--natural)*1.3)}
.pair{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:1.6rem 2.6rem}
.triple{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:1.6rem 2rem}
.triple svg{max-width:calc(var(--natural)*1.2)}
.triple>div,.pair>div,.walls>div,.smalls>div{min-width:0}
.walls{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:2.2rem 2.6rem}
.smalls{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.2rem,1fr));gap:1.5rem 1.5rem}

.legend{display:flex;flex-wrap:wrap;gap:.15rem 1.15rem;margin:0 0 .7rem;font-size:.82rem;
  color:var(--ink-2)}
.chip{display:inline-flex;align-items:center;gap:.45em}
.chip i{display:inline-block;width:.78em;height:.78em;border-radius:.16em;background:var(--k)}
.chip i.line,.chip i.dash{width:1.5em;height:0;border-radius:0;background:none;
  border-top:2.5px solid var(--k)}
.chip i.dash{border-top-style:dashed}
.chip i.long,.chip i.mixed,.chip i.short{width:2.7em;height:2.5px;border-radius:0}
.chip i.long{background:repeating-linear-gradient(90deg,var(--k) 0 .7em,transparent .7em 1em)}
.chip i.mixed{background:repeating-linear-gradient(90deg,var(--k) 0 .7em,transparent .7em .95em,
  var(--k) .95em 1.15em,transparent 1.15em 1.4em)}
.chip i.short{background:repeating-linear-gradient(90deg,var(--k) 0 .3em,transparent .3em .6em)}
.chip i.soft{opacity:.22;width:1.3em}
.chip i.dot{border-radius:50%}
.chip i.ring{background:none;border:1.5px dashed var(--k);border-radius:50%}
.chip i.hatch{background:repeating-linear-gradient(45deg,var(--ink-3) 0 1px,transparent 1px 4px)}
.chip i.cross{background:linear-gradient(45deg,transparent 43%,var(--k) 43% 57%,transparent 57%),
  linear-gradient(-45deg,transparent 43%,var(--k) 43% 57%,transparent 57%)}

svg text{font-family:var(--sans);fill:var(--ink-2);font-size:11.5px}
svg .tick{font-variant-numeric:tabular-nums}
svg .axis{fill:var(--ink-3);font-size:11.5px}
svg .value{font-size:11px;fill:var(--ink);font-variant-numeric:tabular-nums;pointer-events:none}
svg .value.on{fill:var(--on)}
svg .kind{font-size:12px}
svg .mid{text-anchor:middle}
svg .end{text-anchor:end}
svg .grid{stroke:var(--line);stroke-width:1}
svg .base{stroke:var(--ink-3);stroke-width:1}
svg .reference{stroke:var(--ink-3);stroke-width:1;stroke-dasharray:2 4}
svg .mark{stroke:var(--ink-2);stroke-width:1.3;stroke-dasharray:6 3}
svg .line{fill:none;stroke-width:2.4;stroke-linejoin:round;stroke-linecap:round}
svg .dash{stroke-dasharray:1 5.5;stroke-width:2.4}
svg .long{stroke-dasharray:9 5}
svg .mixed{stroke-dasharray:9 5 1 5}
svg .short{stroke-dasharray:3 5}
svg .band{fill-opacity:.15;stroke:none}
svg .dot{stroke:var(--paper);stroke-width:1.2}
svg .quiet{fill-opacity:0;stroke:none}
svg .cell{fill:var(--soft)}
svg .unknown{fill:none;stroke:var(--ink-3);stroke-opacity:.55;stroke-dasharray:2 2.5}
svg .sum{fill:var(--ink-3);fill-opacity:.55}
svg .seen{fill:var(--real)}
svg .unseen{fill:none;stroke:var(--synthetic);stroke-width:1.4;stroke-dasharray:2 1.6}
svg .missing{fill:var(--synthetic);fill-opacity:.07;stroke:var(--synthetic);stroke-opacity:.75;
  stroke-dasharray:3.5 3}
svg .plot{fill:var(--card);stroke:var(--line)}
svg .point{fill-opacity:.62}
svg .error{fill:none;stroke-width:1.8;stroke-linecap:round}
svg .cluster{font-size:19px;font-weight:700;fill:var(--ink);stroke:var(--card);stroke-width:4.5px;
  paint-order:stroke;stroke-linejoin:round;pointer-events:none}
svg image{image-rendering:pixelated}

table{border-collapse:collapse;font-size:.88rem;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:550;color:var(--ink-2);text-align:right;vertical-align:bottom;white-space:nowrap}
th,td{padding:.5rem .8rem;border-bottom:1px solid var(--line)}
td{text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
th:last-child,td:last-child{padding-right:0}
tr.best td{font-weight:650}
td .swatch{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.55em}
td .meter{display:inline-block;width:5.5rem;height:.5em;border-radius:.25em;background:var(--soft);
  margin-left:.7em;overflow:hidden}
td .meter i{display:block;height:100%;border-radius:.25em}
td small{color:var(--ink-3);font-weight:400}
details{border-top:1px solid var(--line)}
details:last-of-type{border-bottom:1px solid var(--line)}
summary{cursor:pointer;padding:.8rem 0;font-weight:600}
summary span{font-weight:400;color:var(--ink-3)}
summary:hover{color:var(--real)}
details>.inside{padding:.2rem 0 1.6rem}
details.run>.inside{padding-bottom:3rem}
details.run>summary{font-size:1.2rem;letter-spacing:-.015em;padding:1.1rem 0}
.keys{columns:3 17rem;column-gap:2.4rem;font-size:.84rem}
.keys div{display:flex;justify-content:space-between;gap:1rem;padding:.22rem 0;
  break-inside:avoid;border-bottom:1px solid var(--line)}
.keys dt{color:var(--ink-2);font-family:var(--mono);font-size:.92em}
.keys dd{margin:0;text-align:right;overflow-wrap:anywhere;min-width:3em}
.keys .set dd{font-weight:700;color:var(--real)}
.callout{margin:1.8rem 0 0;padding:1rem 1.2rem;border-radius:.6rem;
  background:color-mix(in srgb,var(--bad) 9%,transparent);font-size:.93rem}
.callout{overflow-wrap:anywhere}
.callout ul{margin:.35rem 0 0;padding-left:1.2em}
.callout b{color:var(--bad)}
details.run section{padding-top:2.6rem}
details.run h2{font-size:1.35rem}
footer{margin:4.5rem 0 3rem;color:var(--ink-3);font-size:.84rem}
#tip{position:fixed;z-index:9;pointer-events:none;background:var(--ink);color:var(--paper);
  font-size:.8rem;line-height:1.4;padding:.32rem .6rem;border-radius:.4rem;white-space:pre-line;
  max-width:16rem;opacity:0}
#tip.shown{opacity:1}
:focus-visible{outline:2px solid var(--real);outline-offset:3px;border-radius:3px}

@media (max-width:62rem){.tiles{grid-template-columns:repeat(3,minmax(0,1fr))}
  .tile:nth-child(n+4){border-top:1px solid var(--line)}.tile:nth-child(4){border-left:0}}
@media (max-width:44rem){
  .frame{padding:0 1.1rem}
  header{padding-top:2.2rem}
  section{padding-top:2.8rem}
  .tiles{grid-template-columns:repeat(2,minmax(0,1fr));margin-top:1.8rem}
  .tile{padding:.85rem .95rem}
  .tile dt{min-height:0}
  .tile dd{font-size:1.5rem}
  .tile:nth-child(n+3){border-top:1px solid var(--line)}
  .tile:nth-child(odd){border-left:0}.tile:nth-child(even){border-left:1px solid var(--line)}
  .figures,.pair,.triple,.walls,figure.lone{grid-template-columns:minmax(0,1fr);gap:2.4rem 0}
  figure.lone{display:block}
  figure.lone>figcaption{margin-top:.85rem}
  .pair,.triple,.walls{gap:1.6rem 0}
  .triple svg{max-width:calc(var(--natural)*1.02)}
  .smalls{grid-template-columns:repeat(2,minmax(0,1fr))}
  .settings{grid-template-columns:minmax(0,1fr)}
  .keys{columns:1}
  svg text{font-size:13.5px}
  svg .value,svg .axis,svg .kind{font-size:13px}
  svg .cluster{font-size:21px}
}
@media print{
  *{-webkit-print-color-adjust:exact;print-color-adjust:exact}
  body{font-size:10pt}
  nav,#tip{display:none}
  header{padding-top:0}
  section{padding-top:1.6rem}
  h2,h3,h4{break-after:avoid}
  .scroll{overflow:visible}
  .scroll svg{min-width:0}
}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
"""

STYLE = _SHEET.replace("%DARK%", _DARK)
