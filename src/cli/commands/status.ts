/** The command `status`: prints what the ledger has. */
import { readReport } from '../../views/report.ts';
import { command, JSON_OPTION } from '../command.ts';
import { STORE_SETTINGS } from '../settings/settings.ts';
import { duration } from '../settings/value-parsers.ts';
import { namedSubnets } from '../subnet-arguments.ts';
import { printJson } from '../terminal/output.ts';
import { statusLines } from '../terminal/status-text.ts';
import { drawn } from '../terminal/styled.ts';
import { watch } from '../terminal/watch.ts';
import { wait } from '../wait.ts';

/** A reading may be under way when --watch ends. */
const CLOSE_MAX_MS = 1000;

export const status = command({
  name: 'status',
  summary: 'counts, holders, suspects and known drift of the ledger; asks EC2 nothing',
  usage: '[SUBNET…]',
  args: { min: 0, max: 100 },
  settings: STORE_SETTINGS,
  options: {
    watch: {
      kind: duration('1s', '1h'),
      fallback: null,
      bare: '2s',
      help: 'show it again and again, with this pause, until Ctrl-C; without DURATION every 2s',
    },
    json: { ...JSON_OPTION, help: 'print JSON; with --watch one object a line' },
  },
  help: `On a terminal it has colors, unless NO_COLOR is set or TERM is dumb, and --watch draws it in place. Elsewhere
--watch prints it anew each time. A later reading that fails is told and repeated.
`,
  async run({ args, config, log, io, options, assemble }) {
    const { store } = await assemble(config, log);
    const read = async () => readReport(store, await namedSubnets(store, args));
    const { watch: everyMs, json: asJson } = options;
    if (everyMs !== null) {
      const title = 'ec2-ipam status';
      await watch({ read, lines: statusLines, title, asJson, everyMs, io, log, now: Date.now, wait });
      await Promise.race([store.close(), wait(CLOSE_MAX_MS)]);
      return 0;
    }
    const report = await read();
    const { screen } = io.out;
    if (asJson) printJson(io.out, report);
    else if (screen === null) io.out.write(drawn(statusLines(report, Number.POSITIVE_INFINITY), false));
    else screen.draw(drawn(statusLines(report, screen.size().columns), screen.isColored));
    await store.close();
    return 0;
  },
});
