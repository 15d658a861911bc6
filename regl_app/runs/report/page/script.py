"""The report's script: theme switch, tooltips, open details for print. The page works without."""

SCRIPT = """
(() => {
  const root = document.documentElement;
  root.classList.add('js');
  const button = document.querySelector('nav button');
  const dark = () => root.dataset.theme ? root.dataset.theme === 'dark'
    : matchMedia('(prefers-color-scheme: dark)').matches;
  const name = () => { button.textContent = dark() ? 'Light' : 'Dark'; };
  button.addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    name();
  });
  name();

  // Native <title> tooltips are slow to show; take their text over.
  const tip = document.getElementById('tip');
  for (const title of document.querySelectorAll('svg title')) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  document.addEventListener('pointermove', (event) => {
    const target = event.target.closest ? event.target.closest('[data-tip]') : null;
    tip.classList.toggle('shown', target !== null);
    if (target === null) return;
    tip.textContent = target.dataset.tip;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const below = event.clientY + 18 + box.height < innerHeight;
    tip.style.left = Math.max(8, left) + 'px';
    tip.style.top = (below ? event.clientY + 16 : event.clientY - box.height - 12) + 'px';
  });

  let opened = [];
  addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('details:not([open])')];
    for (const one of opened) one.open = true;
  });
  addEventListener('afterprint', () => { for (const one of opened) one.open = false; });
})();
"""
