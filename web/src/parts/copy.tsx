/** "Copy as": a dialog with the program that does what the view shows. */

import { useRef, useState } from "preact/hooks";
import { useServer } from "../server.ts";
import { LANGUAGES, type Language, type Shown, snippet } from "../snippets.ts";

export function CopyAs({ shown }: { shown: () => Shown | null }) {
  const { hasKey } = useServer();
  const dialog = useRef<HTMLDialogElement>(null);
  const [language, setLanguage] = useState<Language>("curl");
  const [open, setOpen] = useState<Shown | null>(null);
  const [copied, setCopied] = useState("");
  const code = open ? snippet(language, open, new URL(".", document.baseURI).href, hasKey) : "";
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
      setCopied("Copied.");
    } catch {
      setCopied("The browser does not allow the page to copy. Select the text, and copy it.");
    }
  };
  return (
    <div class="copy-as">
      <button
        type="button"
        class="quiet"
        onClick={() => {
          setOpen(shown());
          setCopied("");
          dialog.current?.showModal();
        }}
      >
        Copy as…
      </button>
      <dialog ref={dialog} class="copy" aria-label="Copy as" onClose={() => setOpen(null)}>
        <div class="dialog-head">
          <div class="choices" role="group" aria-label="Language">
            {LANGUAGES.map((name) => (
              <button
                key={name}
                type="button"
                aria-pressed={name === language}
                onClick={() => {
                  setLanguage(name);
                  setCopied("");
                }}
              >
                {name}
              </button>
            ))}
          </div>
          <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
            Close
          </button>
        </div>
        <pre tabIndex={0} aria-label={`${language} program`}>{code || "There is nothing on the screen to copy yet."}</pre>
        <div class="dialog-foot">
          <button type="button" class="primary" onClick={() => void copy()}>
            Copy
          </button>
          <span role="status" class="hint">
            {copied}
          </span>
        </div>
      </dialog>
    </div>
  );
}
