// Goal: the page of commands and settings says what `--help` says. Method: its generated parts are made anew.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CLI_PAGE, withGeneratedParts } from '../../scripts/cli-page.ts';
import { ROOT } from '../../scripts/tiers.ts';
import { COMMANDS } from '../../src/cli/cli.ts';
import { SETTINGS, settingNames } from '../../src/cli/settings/settings.ts';
import { assert, suite } from '../kit/uvu.ts';

const page = readFileSync(join(ROOT, CLI_PAGE), 'utf8');
const cli = suite(CLI_PAGE);

cli('generated parts: are not stale, else run `npm run docs`', () => {
  assert.is(page, withGeneratedParts(page));
});

cli('the page: has each setting, and each command with its options', () => {
  const [, ...sections] = page.split(/^### /m);
  for (const { name, options } of COMMANDS) {
    const text = sections.find(section => /^\S+/.exec(section)?.[0] === name) ?? assert.unreachable(name);
    for (const flag of Object.keys(options))
      assert.ok(text?.includes(`| \`--${flag}\` |`), `${name} --${flag}`);
  }
  for (const name of settingNames) assert.ok(page.includes(SETTINGS[name].help), name);
});
cli('the page: begins with where each command is', () => {
  const index = page.split('\n## Commands\n')[1]?.split('\n### ')[0] ?? '';
  const names = [...index.matchAll(/^\| \[`(\S+)`\]\(#\S+\) \| \S/gm)].map(([, name]) => name);
  assert.equal(
    names,
    COMMANDS.map(({ name }) => name),
  );
});
cli.run();
