// Goal: the unit of the README leaves a broken server little to do. Method: what systemd itself says of it; that the
// lines are there, and none that blinds the witness: readme.test.ts.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../scripts/tiers.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { blockBehind, readPages } from '../kit/pages.ts';
import { runProgram } from '../kit/servers/process.ts';
import { assert, suite } from '../kit/uvu.ts';

/** In tenths; without the lines it is 94. */
const EXPOSURE_MAX = 30;

const unit = suite('the unit');
unit('its exposure by systemd-analyze: is at most 3', async () => {
  const folder = tempFolder();
  try {
    const path = join(folder, 'ec2-ipam.service');
    writeFileSync(path, blockBehind(readPages(ROOT), '**4. The unit.**', 'ini'));
    const { code, stdout, stderr } = await runProgram('systemd-analyze', [
      'security',
      '--offline=true',
      '--no-pager',
      `--threshold=${EXPOSURE_MAX}`,
      path,
    ]);
    assert.is(code, 0, `${stdout}${stderr}`);
    assert.match(stdout, /exposure level for ec2-ipam\.service: \d/);
  } finally {
    removeFolder(folder);
  }
});
unit.run();
