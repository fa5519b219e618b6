/** Docker Engine: whether it answers, and what its version means for this driver. */
import { broken, ok, type Verdict, warning } from '../finding.ts';

/** Of its API the witness of a host uses a version that came with this engine. */
const MAJOR_MIN = 25;
/** The engines that this driver was tried with. */
const TRIED = '26, 28 and 29';
const NAMES_SINCE = 29;

export function judgeVersion(version: string): Verdict {
  const major = Number(/^(\d+)\.\d+/.exec(version)?.[1] ?? Number.NaN);
  if (Number.isNaN(major))
    return warning(
      `Docker says version "${version}", which is not known`,
      `use an engine that was tried: ${TRIED}`,
    );
  if (major < MAJOR_MIN)
    return warning(
      `Docker ${version} is older than ${MAJOR_MIN}: leaks on this host are not found, and it was not tried`,
      `upgrade Docker: ${TRIED} were tried`,
    );
  if (major >= NAMES_SINCE) return ok(`Docker ${version}, which names the containers that it asks for`);
  const loop = major < 27 ? '; a network needs --subnet and --gateway, which mknet.sh gives' : '';
  return ok(
    `Docker ${version}, which does not name containers: status has names from readings of the host${loop}`,
  );
}

/** `error`: the message of Docker's client. */
export function judgeAway(socketPath: string, error: string): Verdict {
  const reason = error.replace(`Docker at ${socketPath} cannot be read: `, '');
  if (/EACCES|EPERM/.test(reason))
    return broken(`Docker's socket ${socketPath} may not be used: ${reason}`, 'run this as root');
  if (/ENOENT|ECONNREFUSED/.test(reason))
    return broken(
      `Docker does not listen on ${socketPath}: ${reason}`,
      'systemctl start docker, or --docker-socket PATH',
    );
  return broken(
    `Docker does not answer: ${reason}`,
    'see `systemctl status docker` and `journalctl -u docker`',
  );
}
