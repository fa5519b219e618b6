/** Who may use the sockets, and read what is secret. */
import { broken, ok, type Verdict, warning } from '../finding.ts';
import type { Files } from '../host.ts';

const USED_BY_OTHERS = 0o002;
const READ_BY_OTHERS = 0o004;
const ANY_OF_OTHERS = 0o077;

export interface Places {
  /** Sockets of the driver. */
  readonly sockets: readonly string[];
  readonly dockerSocket: string | null;
  readonly stateDir: string;
  /** Keys that a plugin spec names. */
  readonly keys: readonly string[];
  /** Files with secrets that the configuration names and others can read, as the configuration complains of them. */
  readonly exposed: readonly { readonly message: string; readonly hint: string }[];
}

export async function judgePermissions(files: Files, places: Places): Promise<Verdict[]> {
  // The program does not start with such a file.
  const found = places.exposed.map(({ message, hint }) => broken(message, hint));
  for (const path of places.sockets) {
    const mode = (await files.stat(path))?.mode ?? 0;
    if (mode & USED_BY_OTHERS)
      found.push(
        warning(
          `${path} can be used by every user of this host (mode ${octal(mode)})`,
          `chmod 600 ${path}, and --socket-mode 0600`,
        ),
      );
  }
  const docker = places.dockerSocket === null ? null : await files.stat(places.dockerSocket);
  if (docker !== null && docker.mode & USED_BY_OTHERS)
    found.push(
      warning(
        `${places.dockerSocket} can be used by every user, who is as good as root`,
        `chmod 660 ${places.dockerSocket}`,
      ),
    );
  const folder = await files.stat(places.stateDir);
  if (folder !== null && folder.mode & ANY_OF_OTHERS)
    found.push(
      warning(
        `${places.stateDir} is open to others (mode ${octal(folder.mode)})`,
        `chmod 700 ${places.stateDir}`,
      ),
    );
  for (const path of places.keys) {
    const mode = (await files.stat(path))?.mode ?? 0;
    if (mode & READ_BY_OTHERS)
      found.push(warning(`the key ${path} can be read by every user`, `chmod 600 ${path}`));
  }
  return found.length > 0 ? found : [ok('sockets and secrets are for their owners')];
}

const octal = (mode: number): string => `0${mode.toString(8)}`;
