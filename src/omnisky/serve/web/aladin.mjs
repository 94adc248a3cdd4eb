// Aladin Lite with the objects in it; told by the explorer what is asked about. Pictures of the sky come from its HiPS
// servers if there is a network; without one, objects are drawn on a grey sky.

const said = document.querySelector("#said");
let [view, all, near, asked] = [null, null, null, null];

async function open() {
  const A = (await import("./aladin/aladin.js")).default;
  await A.init;
  view = A.aladin("#sky", { fov: 60, cooFrame: "ICRSd", showCooGrid: false, showShareControl: false, showContextMenu: false, log: false });
  const layer = (name, color, sourceSize, shape) => {
    const made = A.catalog({ name, color, sourceSize, shape, onClick: "showPopup" });
    view.addCatalog(made);
    return made;
  };
  [all, near, asked] = [layer("all", "#7daff9", 6, "circle"), layer("look-alikes", "#e9ecf1", 12, "circle"), layer("the object", "#ffb84d", 18, "cross")];
  const source = ({ id, ra, dec, similarity }) => A.source(ra, dec, { popupTitle: id, popupDesc: similarity === undefined ? "" : `similarity ${similarity.toFixed(3)}` });
  addEventListener("message", ({ data, source: from }) => {
    if (from !== parent) return;
    for (const [made, rows] of [[all, data.all], [near, data.near], [asked, data.asked]]) {
      if (!rows) continue;
      made.removeAll();
      made.addSources(rows.map(source));
    }
    if (data.asked?.length) {
      view.gotoRaDec(data.asked[0].ra, data.asked[0].dec);
      view.setFoV(data.fov);
    }
  });
  said.textContent = "";
  parent.postMessage("open", location.origin);
}

open().catch((error) => { said.textContent = `Aladin Lite does not start here: ${error?.message ?? error}`; });
