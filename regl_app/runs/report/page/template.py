"""The report's HTML (jinja2, autoescaped)."""

TEMPLATE = """
{%- macro figures(section) %}
<section id="{{ section.id }}">
  <h2>{{ section.title }}</h2>
  <p class="lead">{{ section.lead }}</p>
  <div class="figures">
  {%- for item in section.figures %}
    <figure id="{{ item.id }}" aria-label="{{ item.title }}"
      {%- if item.wide %} class="wide"{% elif item.id in section.lone %} class="lone"{% endif %}>
      <h3>{{ item.title }}</h3>
      <div class="picture">{{ item.body }}</div>
      <figcaption>{{ item.caption }}</figcaption>
    </figure>
  {%- endfor %}
  {%- for item in section.absent %}
    <p class="absent"><b>{{ item.title }}</b> is not shown: {{ item.reason }}.</p>
  {%- endfor %}
  </div>
</section>
{%- endmacro %}

{%- macro tiles(entries) %}
<dl class="tiles">
  {%- for entry in entries %}
  <div class="tile{{ ' main' if loop.first }}"><dt>{{ entry.label }}</dt>
    <dd>{{ entry.value }}{% if entry.unit %} <small>{{ entry.unit }}</small>{% endif %}</dd>
    {%- if entry.note %}<p>{{ entry.note }}</p>{% endif %}</div>
  {%- endfor %}
</dl>
{%- endmacro %}

{%- macro settings(run) %}
<dl class="settings">
  {%- for key, value in run.settings %}<div><dt>{{ key }}</dt><dd>{{ value }}</dd></div>{% endfor %}
</dl>
{%- endmacro %}

{%- macro failures(run) %}
{%- if run.error or run.failures %}
<div class="callout" role="note">
  {%- if run.error %}<b>The run {{ run.ended }}.</b> {{ run.error }}{% endif %}
  {%- if run.failures %}
  <div><b>Replies missing or refused: {{ run.failures|length }}.</b> The rounds went on without
  them.</div>
  <ul>{% for line in run.failures[:8] %}<li>{{ line }}</li>{% endfor %}
  {%- if run.failures|length > 8 %}<li>and {{ run.failures|length - 8 }} more</li>{% endif %}</ul>
  {%- endif %}
</div>
{%- endif %}
{%- endmacro %}

{%- macro record(run) %}
<section id="{{ run.prefix }}record">
  <h2>The record</h2>
  <p class="lead">The numbers behind the figures, and everything needed to run it again.</p>
  {%- for item in run.left_out %}
  <p class="absent"><b>{{ item.title }}</b> is not shown: {{ item.reason }}.</p>
  {%- endfor %}
  {%- if run.class_rows %}
  <details><summary>Every class <span>{{ run.class_rows|length }} rows, after
    {{ run.classes_after }}</span></summary>
  <div class="inside scroll" tabindex="0"><table>
    <thead><tr>{% for name in run.class_columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
    <tbody>{% for row in run.class_rows %}<tr>
      {%- for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
    {%- endfor %}</tbody>
  </table></div></details>
  {%- endif %}
  <details><summary>Every round <span>{{ run.rows|length }} rows</span></summary>
  <div class="inside scroll" tabindex="0"><table>
    <thead><tr>{% for name in run.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
    <tbody>{% for row in run.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
    {%- endfor %}</tbody>
  </table></div></details>
  {%- if run.prompts %}
  <details><summary>Every prompt <span>{{ run.prompts|length }} classes</span></summary>
  <div class="inside"><dl class="keys">
    {%- for key, value in run.prompts %}
    <div><dt>{{ key }}</dt><dd>{{ value }}</dd></div>{% endfor %}
  </dl></div></details>
  {%- endif %}
  <details><summary>Full configuration <span>{{ run.keys|length }} keys, changed ones in blue</span>
  </summary><div class="inside"><dl class="keys">
    {%- for key, value, changed in run.keys %}
    <div{% if changed %} class="set"{% endif %}><dt>{{ key }}</dt><dd>{{ value }}</dd></div>
    {%- endfor %}
  </dl></div></details>
  <details><summary>Environment <span>versions and machine</span></summary>
  <div class="inside"><dl class="keys">
    {%- for key, value in run.environment.items() %}
    <div><dt>{{ key }}</dt><dd>{{ value }}</dd></div>{% endfor %}
  </dl></div></details>
</section>
{%- endmacro -%}

<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<nav aria-label="Sections"><div class="frame">
  <a class="brand" href="#top"><i></i>ReGL</a>
  {%- for id, name in links %}<a href="#{{ id }}">{{ name }}</a>{% endfor %}
  <button type="button" aria-label="Switch between light and dark">Dark</button>
</div></nav>
<main class="frame" id="top">
{%- if comparison %}
<header>
  <p class="kicker">{{ comparison.kicker }}</p>
  <h1>{{ comparison.headline }}</h1>
  <p class="lede">{{ comparison.lede }}</p>
</header>
<section id="comparison">
  <h2>Side by side</h2>
  <p class="lead">{{ comparison.lead }}</p>
  <div class="scroll" tabindex="0"><table>
    <thead><tr>{% for name in comparison.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
    <tbody>
    {%- for row in comparison.rows %}
    <tr{% if row.best %} class="best"{% endif %}>
      <td><span class="swatch" style="background:{{ row.colour }}"></span>{{ row.label }}
        {%- if row.repeats %} <small>{{ row.repeats }}</small>{% endif %}</td>
      <td>{{ row.accuracy }}<span class="meter"><i style="width:{{ row.share }}%;background:
        {{- row.colour }}"></i></span></td>
      {%- for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}
    </tr>
    {%- endfor %}
    </tbody>
  </table></div>
</section>
{{ figures(comparison.section) }}
<section id="runs">
  <h2>Run by run</h2>
  <p class="lead">{{ comparison.detail }}</p>
  {%- for run in runs %}
  <details class="run" id="{{ run.prefix }}run"{% if loop.first %} open{% endif %}>
    <summary>{{ run.name }} <span>{{ run.outcome }}</span></summary>
    <div class="inside">
    {{- tiles(run.tiles) }}{{ settings(run) }}{{ failures(run) }}
    {%- for section in run.sections %}{{ figures(section) }}{% endfor %}
    {{- record(run) }}
    </div>
  </details>
  {%- endfor %}
</section>
{%- else %}
{%- set run = runs[0] %}
<header>
  <p class="kicker">{{ run.kicker }}</p>
  <h1{% if run.error %} class="failed"{% endif %}>{{ run.headline }}</h1>
  <p class="lede">{{ run.lede }}</p>
  {{- tiles(run.tiles) }}{{ settings(run) }}{{ failures(run) }}
</header>
{%- for section in run.sections %}{{ figures(section) }}{% endfor %}
{{- record(run) }}
{%- endif %}
<footer>{{ footer }}</footer>
</main>
<div id="tip" role="status" aria-hidden="true"></div>
<script>{{ script }}</script>
</body>
</html>
"""
